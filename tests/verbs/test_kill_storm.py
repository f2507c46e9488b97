"""`train` on a folder as people have them, killed again and again, equals an undisturbed run."""

import io
import json
import multiprocessing
import os
import random
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training.tiny import tiny_config

from openunite.cli import main
from openunite.modalities.image.task import ImageTask
from openunite.training.checkpoint import load_newest
from openunite.training.config import DataConfig, save_config

STEPS, KILLS = 60, 15


def picture(seed: int) -> Image.Image:
    """Smooth colors, any size."""
    generator = np.random.default_rng(seed)
    width, height = generator.integers(20, 60, 2).tolist()
    corners = generator.integers(0, 256, (3, 3, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def photos(folder: Path) -> Path:
    """40 images: plain, CMYK, 16-bit, palette, EXIF-rotated; and one that is cut off."""
    rotated = Image.Exif()
    rotated[0x0112] = 6
    for i in range(40):
        home, image = folder / f"kind{i % 2}", picture(i)
        home.mkdir(parents=True, exist_ok=True)
        if i % 5 == 0:
            image.save(home / f"{i:02}.png")
        elif i % 5 == 1:
            image.convert("CMYK").save(home / f"{i:02}.jpg")
        elif i % 5 == 2:
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(
                home / f"{i:02}.png"
            )
        elif i % 5 == 3:
            image.quantize(16).save(home / f"{i:02}.png")
        else:
            image.save(home / f"{i:02}.jpg", exif=rotated)
    whole = io.BytesIO()
    picture(99).save(whole, "JPEG")
    (home / "cut.jpg").write_bytes(whole.getvalue()[:-200])
    return folder


def settings(data: Path, path: Path) -> Path:
    """A config.yaml for a small network on 8 x 8 color images."""
    image = {"height": 8, "width": 8, "channels": 3, "patch_size": 4, "flip": True}
    config = tiny_config(
        modality_config=image,
        num_classes=None,
        data=DataConfig(str(data), max_bad_share=0.05),
        steps=STEPS,
        batch_size=8,
        checkpoint_every=3,
    )
    save_config(config, path)
    return path


def run(config: Path, output: Path, cpu_seconds: float | None = None) -> bool:
    """`openunite train` in a child that has everything imported; whether it came to the end.

    After `cpu_seconds` of its own, however busy the machine is, the child dies of SIGPROF: like
    SIGKILL, since nobody handles it, wherever it happens to be.
    """

    def child() -> None:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds or 0.0)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        main(["train", "--config", str(config), "--output", str(output)])
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGPROF)
    return process.exitcode == 0


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def newest_step(run: Path) -> int:
    """Of what is saved; 0 if nothing is. What is saved has to be sound at any moment."""
    loaded, complaints = load_newest(run / "checkpoints")
    assert complaints == []
    return 0 if loaded is None else loaded.state["step"]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """Weights, EMA and optimizer state of the newest checkpoint, and the saved pipeline."""
    loaded, complaints = load_newest(run / "checkpoints")
    assert loaded is not None
    assert complaints == []
    assert loaded.state["step"] == STEPS
    groups = dict(loaded.tensors)
    for part in ("encoder", "decoder"):
        file = run / "pipeline" / part / "diffusion_pytorch_model.safetensors"
        groups[f"pipeline {part}"] = load_file(file)
    return {f"{group}/{name}": t for group, part in groups.items() for name, t in part.items()}


@pytest.mark.slow
def test_fifteen_kills_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageTask, "finish", lambda *_: {})  # a thousand samples, after the end
    config = settings(photos(tmp_path / "photos"), tmp_path / "settings.yaml")
    before = cpu_of_children()
    assert run(config, tmp_path / "whole")
    whole_seconds = cpu_of_children() - before
    moments, kills = random.Random(0), []
    while len(kills) < KILLS:
        if not run(config, tmp_path / "stormy", moments.uniform(0.01, 0.3 * whole_seconds)):
            kills.append(newest_step(tmp_path / "stormy"))
    assert len(set(kills)) > 4, f"kills came too early or too late: {kills}"
    assert run(config, tmp_path / "stormy")
    rows = (tmp_path / "stormy" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(1, STEPS + 1))
    about = json.loads((tmp_path / "stormy" / "data.json").read_text())
    assert [line.split(":")[0] for line in about["skipped"]] == ["kind1/cut.jpg"]
    whole, stormy = tensors(tmp_path / "whole"), tensors(tmp_path / "stormy")
    assert whole.keys() == stormy.keys()
    assert [name for name in whole if not torch.equal(whole[name], stormy[name])] == []

"""Packaged weights: they are named like runs, are float32 in use, and give what they gave."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.training.tiny import tiny_config
from tools.package_weights import GOLDEN, MAX_BYTES, check, package

import openunite
from openunite import ImagePipeline, weights
from openunite.cli import main
from openunite.pipelines.folder import write_manifest
from openunite.runs import load_pipeline

NAMES = weights.packaged_names()
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three steps on noise."""
    home = tmp_path_factory.mktemp("packaged")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    config = tiny_config(num_classes=None, steps=3, batch_size=8)
    config = replace(config, data=replace(config.data, holdout_share=0.2))
    data = (pixels, np.arange(60) % 3)
    return openunite.train(config, data, output=home / "run").folder


@pytest.fixture
def tiny(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packaged weights "tiny" of that run, in a place of their own."""
    monkeypatch.setattr(weights, "HOME", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    return package(str(run), "tiny", tmp_path / "weights", "random noise, no licence")


def test_a_name_is_taken_wherever_a_run_is(tiny: Path, tmp_path: Path) -> None:
    assert weights.packaged_names() == ["tiny"]
    main(["sample", "tiny", "--num-samples", "2", "--output", "a.png"])
    main(["reconstruct", "tiny", "a.png", "--output", "b.png"])
    main(["encode", "tiny", "a.png", "--output", "z.npz"])
    assert all(Image.open(tmp_path / name).size[0] > 20 for name in ("a.png", "b.png"))
    loaded = ImagePipeline.from_pretrained("tiny")
    drawn = torch.stack(list(openunite.sample("tiny", 2)))
    assert torch.equal(loaded.generate([0, 1], seeds=[0, 1]), drawn)
    assert {p.dtype for p in loaded.encoder.parameters()} == {torch.float32}
    tensors = load_file(tiny / "encoder" / WEIGHTS)
    assert {t.dtype for t in tensors.values() if t.ndim > 1} == {torch.float16}


def test_info_describes_a_name(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", "tiny"])
    assert "parameters" in capsys.readouterr().out


def test_a_name_that_is_also_a_recipe_is_described_as_both(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.rename(tiny.parent / "digits")
    main(["info", "digits"])
    both = capsys.readouterr().out
    assert "recipe: digits" in both
    assert "The package also holds a trained pipeline of this name" in both
    main(["info", "--recipe", "digits"])
    assert "The package also" not in capsys.readouterr().out


def test_a_folder_of_the_name_comes_first(tiny: Path, run: Path, tmp_path: Path) -> None:
    load_pipeline(run).save_pretrained(tmp_path / "tiny")
    folder = ImagePipeline.from_pretrained("tiny")
    exact = load_pipeline(run).decoder.state_dict()
    assert all(torch.equal(v, exact[k]) for k, v in folder.decoder.state_dict().items())


def test_a_run_folder_is_taken_by_from_pretrained(run: Path) -> None:
    assert len(ImagePipeline.from_pretrained(run)(num_images=2)) == 2


def test_a_run_without_a_pipeline_says_how_its_checkpoint_is_loaded(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(FileNotFoundError, match=r"is not finished; openunite\.Run"):
        ImagePipeline.from_pretrained(tmp_path)


def test_an_unknown_name_lists_the_packaged_ones(tiny: Path, monkeypatch) -> None:
    monkeypatch.setattr("openunite.pipelines.folder.snapshot_download", _offline)
    with pytest.raises(FileNotFoundError, match=r"tinny is no run.* no packaged model \(tiny\)"):
        load_pipeline("tinny")


def _offline(*_: object, **__: object) -> str:
    raise ConnectionError


def test_the_folder_says_what_it_is(tiny: Path) -> None:
    text = (tiny / "README.md").read_text()
    for words in ("random noise, no licence", "PSNR", 'openunite.sample("tiny", 8)', "steps"):
        assert words in text
    assert (tiny / weights.TRAINING).is_file()
    assert (tiny / "card.json").is_file()


def test_golden_values_notice_changed_weights(tiny: Path) -> None:
    check(tiny)
    for part, key in (("decoder", "images"), ("encoder", "images|latents")):
        file = tiny / part / WEIGHTS
        before = load_file(file)
        save_file({k: v * 1.1 for k, v in before.items()}, file, {"format": "pt"})
        write_manifest(tiny)
        with pytest.raises(ValueError, match=f"tiny: ({key}) differ by"):
            check(tiny)
        save_file(before, file, {"format": "pt"})
        write_manifest(tiny)


def test_what_cannot_be_packaged_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="licence of in memory is not known"):
        package(str(run), "tiny", tmp_path)
    with pytest.raises(FileNotFoundError, match="is no run"):
        package(str(tmp_path), "tiny", tmp_path)
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    with pytest.raises(ValueError, match="is not finished"):
        package(str(tmp_path), "tiny", tmp_path)


# ---- what the package holds -----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_packaged_weights_give_their_golden_values(name: str) -> None:
    check(weights.HOME / name)


@pytest.mark.parametrize("name", NAMES)
def test_packaged_weights_are_small_and_have_a_card(name: str) -> None:
    folder = weights.HOME / name
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= MAX_BYTES
    files = ("README.md", "card.json", weights.TRAINING, f"{GOLDEN}.json", "manifest.json")
    assert [x for x in files if not (folder / x).is_file()] == []
    notice = Path(__file__).parents[2] / "NOTICE"
    assert f"src/openunite/weights/{name}" in notice.read_text()


@pytest.mark.skipif("fashion" not in NAMES, reason="no packaged weights of that name")
def test_a_picture_comes_within_ten_seconds_of_processor_time(tmp_path: Path) -> None:
    code = (
        "import time\nfrom openunite.cli import main\n"
        "main(['sample', 'fashion'])\nassert time.process_time() < 10, time.process_time()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert time.monotonic() - start < 100  # a machine may be shared
    assert np.asarray(Image.open(tmp_path / "samples.png")).std() > 10

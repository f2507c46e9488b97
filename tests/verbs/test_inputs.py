"""`sample`, `reconstruct` and `encode`: which files they take, and what they refuse at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from tests.conftest import make_models

from openunite import ImagePipeline
from openunite.batch import CLASS
from openunite.cli import main
from openunite.modalities.image.task import ImageTask
from openunite.pipelines.base import PLAIN
from openunite.verbs import inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained pipeline for 8 x 8 RGB images of five classes."""
    image = {"height": 8, "width": 8, "channels": 3, "patch_size": 4}
    models = make_models(image=image)
    folder = tmp_path_factory.mktemp("pipeline")
    sampling = PLAIN.change(num_inference_steps=1)
    ImagePipeline(models.encoder, models.decoder, sampling).save_pretrained(folder)
    return str(folder)


def image() -> Image.Image:
    return Image.new("RGB", (12, 9), (200, 30, 90))


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command says that has to exit with 2: one line, below those on skipped files."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines[:-1] if not line.startswith("skipped ")] == []
    return lines[-1]


@pytest.mark.parametrize(
    "suffix", [".ppm", ".PGM", ".tga", ".jfif", ".webp", ".gif", ".jp2", ".avif"]
)
def test_a_folder_gives_every_kind_of_image_that_train_takes(
    saved: str, tmp_path: Path, suffix: str
) -> None:
    codec = {".jp2": "jpg_2000", ".avif": "avif"}.get(suffix)
    if codec is not None and not features.check(codec):
        pytest.skip(f"this Pillow was built without {codec}")
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    file = tmp_path / "photos" / "deep" / f"a{suffix}"
    image().save(file, format="JPEG" if suffix == ".jfif" else None)
    main(["encode", saved, str(tmp_path / "photos"), "--output", str(tmp_path / "z.npz")])
    assert np.load(tmp_path / "z.npz")["files"].tolist() == [str(file)]
    main(["reconstruct", saved, str(tmp_path / "photos"), "--output", str(tmp_path / "p.png")])
    assert (tmp_path / "p.png").is_file()


def test_a_file_named_by_hand_needs_no_suffix(saved: str, tmp_path: Path) -> None:
    image().save(tmp_path / "photo", format="PNG")
    main(["encode", saved, str(tmp_path / "photo"), "--output", str(tmp_path / "z.npz")])
    assert np.load(tmp_path / "z.npz")["latents"].shape == (1, 4, 6)


def test_unreadable_files_are_named_and_left_out(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    image().save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    main(["encode", saved, str(folder), "--output", str(tmp_path / "z.npz")])
    error = capsys.readouterr().err
    assert "skipped" in error
    assert "bad.png" in error
    assert "gone.png" in error
    assert np.load(tmp_path / "z.npz")["files"].tolist() == [str(folder / "good.png")]
    (folder / "good.png").unlink()
    message = failing(capsys, "reconstruct", saved, folder / "bad.png", "--output", "never.png")
    assert message.endswith("none of 1 files could be read as an image")
    assert not Path("never.png").exists()


def test_missing_folders_of_an_output_are_made(saved: str, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "grid.png"
    main(["sample", saved, "--num-images", "2", "--output", str(output)])
    assert output.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "PIPE", "--output", "a.tar"], "--output must end in .png or .npz or have no"),
        (
            ["sample", "PIPE", "--num-images", "0"],
            "num_samples must be a whole number of at least 1, got 0",
        ),
        (["sample", "PIPE", "--batch-size", "0"], "batch_size must be a whole number of at least"),
        (["encode", "PIPE", "IMAGE", "--output", "latents"], "--output must end in .npz"),
        (["encode", "PIPE", "IMAGE", "--batch-size", "0"], "batch_size must be a whole number"),
        (["encode", "PIPE", "EMPTY"], "no files in"),
        (["encode", "PIPE", "/nowhere/a.png"], "/nowhere/a.png does not exist"),
        (["reconstruct", "PIPE", "IMAGE", "--output", "a.txt"], "--output must end in .png"),
        (["reconstruct", "PIPE", "IMAGE", "--num-images", "0"], "num_samples must be a whole"),
    ],
)
def test_what_cannot_work_is_refused_before_the_model_works(
    saved: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    image().save(tmp_path / "image.png")
    (tmp_path / "empty").mkdir()
    names = {"PIPE": saved, "IMAGE": tmp_path / "image.png", "EMPTY": tmp_path / "empty"}
    monkeypatch.chdir(tmp_path)
    for work in ("generate", "encode"):
        monkeypatch.setattr(ImagePipeline, work, lambda *_, **__: pytest.fail("worked"))
    assert message in failing(capsys, *(names.get(argument, argument) for argument in arguments))


def test_an_output_folder_that_cannot_be_written_is_refused(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inputs.os, "access", lambda path, mode: False)  # root may write anywhere
    message = failing(capsys, "sample", saved, "--output", tmp_path / "a.png")
    assert f"cannot write into {tmp_path}; choose another --output" in message


def test_a_damaged_pipeline_is_one_sentence(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = ImagePipeline.from_pretrained(saved)
    copy.save_pretrained(tmp_path)
    weights = tmp_path / "encoder" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(weights) in failing(capsys, "info", tmp_path)


def test_the_chosen_device_is_used(monkeypatch: pytest.MonkeyPatch, saved: str) -> None:
    moved: list[object] = []
    monkeypatch.setattr(inputs, "choose_device", lambda: torch.device("meta"))
    monkeypatch.setattr(ImagePipeline, "to", lambda self, device: moved.append(device))
    inputs.open_pipeline(saved)
    assert moved == [torch.device("meta")]


def test_classes_are_names_first_and_indices_else(saved: str) -> None:
    pipeline = ImagePipeline.from_pretrained(saved)
    pipeline.register_to_config(class_names=["cat", "3", "1", "10", "eel"])
    found = ImageTask().classes(pipeline, ["1", "3", "eel", "0", "10"], 5, ".png")
    assert pipeline._evidence(found, 5).conditions[CLASS].values.tolist() == [2, 1, 4, 0, 3]

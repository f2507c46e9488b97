"""Outputs of many samples: written as they are drawn, gone on with, whole or not at all."""

import json
from collections.abc import Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import make_models
from tests.modalities.atoms.test_pipeline import build

from openunite import ImagePipeline
from openunite.data.crystals.readers import read_crystals
from openunite.data.molecules.readers import read_molecules
from openunite.modalities.arrays import ArrayTask
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.image.task import ImageTask
from openunite.pipelines.base import PLAIN
from openunite.progress import showing
from openunite.verbs.outputs import Stored
from openunite.verbs.sample import sample

FAST: dict[str, Any] = {"num_inference_steps": 1}


@pytest.fixture(scope="module")
def pipeline() -> ImagePipeline:
    """For 8 x 8 RGB images of five classes."""
    models = make_models(image={"height": 8, "width": 8, "channels": 3, "patch_size": 4})
    names = ["ant", "bee", "cat", "dog", "eel"]
    sampling = PLAIN.change(solver="euler", num_inference_steps=1)
    return ImagePipeline(models.encoder.eval(), models.decoder.eval(), sampling, names)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The seeds of each batch that is drawn; drawing stops at a negative number as by Ctrl-C."""
    seen: list[list[int]] = []

    def watch(kind: type) -> None:
        generate = kind.generate  # type: ignore[attr-defined]

        @wraps(generate)
        def watched(self: Any, labels: Any, *, seeds: Sequence[int], **options: Any) -> Any:
            if seen and seen[-1] == [-1]:
                raise KeyboardInterrupt
            seen.append(list(seeds))
            if len(seen) == seen[0][0]:
                seen.append([-1])
            return generate(self, labels, seeds=seeds, **options)

        monkeypatch.setattr(kind, "generate", watched)

    watch(ImagePipeline)
    watch(AtomPipeline)
    return seen


def stopped(drawn: list[list[int]], after: int, *arguments: Any, **options: Any) -> None:
    """Sample, and press Ctrl-C after some batches."""
    drawn[:] = [[after + 1]]
    with pytest.raises(KeyboardInterrupt):
        sample(*arguments, **options)
    drawn.clear()
    drawn.append([-2])  # never stops


def batches(drawn: list[list[int]]) -> list[list[int]]:
    return drawn[1:]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- one file -----------------------------------------------------------------------------------


def test_batches_do_not_change_an_npz(pipeline: ImagePipeline, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    assert sample(pipeline, 10, output=whole, seed=3) == whole
    assert sample(pipeline, 10, output=parts, seed=3, batch_size=4) == parts
    first, second = np.load(whole), np.load(parts)
    assert first["images"].shape == second["images"].shape == (10, 8, 8, 3)
    assert first["images"].dtype == second["images"].dtype == np.uint8
    assert np.abs(first["images"].astype(int) - second["images"]).max() <= 1
    assert first["labels"].tolist() == second["labels"].tolist() == [0, 1, 2, 3, 4] * 2
    listed = torch.stack(sample(pipeline, 10, seed=3)).permute(0, 2, 3, 1)
    assert np.abs((listed * 255).round().numpy() - first["images"]).max() <= 1
    assert names_in(tmp_path) == ["parts.npz", "whole.npz"]


def test_a_model_without_classes_has_no_labels(tmp_path: Path) -> None:
    models = make_models(num_classes=0)
    plain = ImagePipeline(models.encoder.eval(), models.decoder.eval())
    sample(plain, 3, output=tmp_path / "a.npz", batch_size=2, **FAST)
    assert np.load(tmp_path / "a.npz").files == ["images"]


def test_a_stopped_call_goes_on_where_it_was(
    pipeline: ImagePipeline, tmp_path: Path, drawn: list[list[int]]
) -> None:
    expected, path = tmp_path / "expected.npz", tmp_path / "new.npz"
    drawn.append([-2])
    sample(pipeline, 10, output=expected, batch_size=4)
    path.write_text("an earlier file")
    stopped(drawn, 1, pipeline, 10, output=path, batch_size=4)
    assert path.read_text() == "an earlier file"
    sample(pipeline, 10, output=path, batch_size=4)
    assert batches(drawn) == [[4, 5, 6, 7], [8, 9]]
    assert np.array_equal(np.load(path)["images"], np.load(expected)["images"])
    assert names_in(tmp_path) == ["expected.npz", "new.npz"]


def test_more_samples_go_on_and_damaged_parts_are_drawn_again(
    pipeline: ImagePipeline, tmp_path: Path, drawn: list[list[int]]
) -> None:
    path = tmp_path / "new.npz"
    stopped(drawn, 2, pipeline, 8, output=path, batch_size=2)
    first, _second = sorted(tmp_path.glob(".new.npz.parts/*/*"))
    first.write_bytes(first.read_bytes()[:40])
    sample(pipeline, 9, output=path, batch_size=2)
    assert batches(drawn) == [[0, 1], [4, 5], [6, 7], [8]]
    assert len(np.load(path)["images"]) == 9


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"classes": "cat"}, {"guidance_scale": 2.0}, {"batch_size": 3}]
    + [{"guidance_scale": {"class": 2.0}}],
    ids=str,
)
def test_other_settings_start_anew(
    pipeline: ImagePipeline, tmp_path: Path, drawn: list[list[int]], changed: dict[str, Any]
) -> None:
    path, settings = tmp_path / "new.npz", {"batch_size": 4}
    stopped(drawn, 1, pipeline, 8, output=path, **settings)
    sample(pipeline, 8, output=path, **(settings | changed))
    assert sum(map(len, batches(drawn))) == 8
    assert names_in(tmp_path) == ["new.npz"]


def test_other_weights_start_anew(
    pipeline: ImagePipeline, tmp_path: Path, drawn: list[list[int]]
) -> None:
    models = make_models(image={"height": 8, "width": 8, "channels": 3, "patch_size": 4})
    with torch.no_grad():
        next(models.encoder.parameters()).add_(1.0)
    other = ImagePipeline(models.encoder.eval(), models.decoder.eval(), pipeline.sampling)
    path = tmp_path / "new.npz"
    stopped(drawn, 1, pipeline, 8, output=path, batch_size=4)
    sample(other, 8, output=path, batch_size=4)
    assert len(batches(drawn)) == 2


def test_an_error_while_the_file_is_put_together_costs_nothing(
    pipeline: ImagePipeline,
    tmp_path: Path,
    drawn: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "new.npz"
    drawn.append([-2])

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ImageTask, "unpack", full)
        with pytest.raises(OSError, match="no space"):
            sample(pipeline, 8, output=path, batch_size=4)
    assert names_in(tmp_path) == [".new.npz.parts"]
    sample(pipeline, 8, output=path, batch_size=4)
    assert len(batches(drawn)) == 2
    assert names_in(tmp_path) == ["new.npz"]


def test_samples_on_disk_are_read_once_one_part_after_the_other(
    pipeline: ImagePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, unpack, loaded = ImageTask.write, ImageTask.unpack, []

    def watched(self: ImageTask, path: Path, samples: Any, labels: Any) -> int:
        assert isinstance(samples, Stored)
        assert len(samples) == 7
        return write(self, path, iter_only(samples), labels)

    def counted(self: ImageTask, tensors: Any) -> Any:
        loaded.append(len(tensors["images"]))
        return unpack(self, tensors)

    monkeypatch.setattr(ImageTask, "write", watched)
    monkeypatch.setattr(ImageTask, "unpack", counted)
    sample(pipeline, 7, output=tmp_path / "a.npz", batch_size=3)
    assert loaded == [3, 3, 1]


class iter_only:
    """What can only be taken one after the other."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.samples)

    def __contains__(self, item: object) -> bool:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("kind", "suffix", "read"),
    [
        ("molecule", ".xyz", read_molecules),
        ("molecule", ".sdf", read_molecules),
        ("crystal", ".cif", read_crystals),
        ("crystal", ".extxyz", read_crystals),
    ],
)
def test_structures_go_into_one_file_in_order(
    kind: str, suffix: str, read: Any, tmp_path: Path, drawn: list[list[int]]
) -> None:
    pipeline = build(kind)
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    options: dict[str, Any] = {"num_atoms": [3, 4, 5, 6, 7], **FAST}
    drawn.append([-2])
    sample(pipeline, 5, output=whole, **options)
    stopped(drawn, 1, pipeline, 5, output=parts, batch_size=2, **options)
    sample(pipeline, 5, output=parts, batch_size=2, **options)
    assert batches(drawn) == [[2, 3], [4]]
    found = [read(str(path)).structures for path in (whole, parts)]
    assert [len(item) for item in found[0]] == [len(item) for item in found[1]]
    # Most lattices of an untrained network are impossible.
    assert len(found[0]) >= 1 if kind == "crystal" else len(found[0]) == 5
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one.numbers, two.numbers)
        np.testing.assert_allclose(one.positions, two.positions, atol=1e-3)


# ---- pictures -----------------------------------------------------------------------------------


def test_a_picture_shows_what_a_person_can_look_at(
    pipeline: ImagePipeline,
    tmp_path: Path,
    drawn: list[list[int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "grid.png"
    drawn.append([-2])
    with showing():
        sample(pipeline, 1000, output=path)
    assert sum(map(len, batches(drawn))) == 256
    said = capsys.readouterr()
    assert "a .png shows the first 256 samples; for all of them choose .npz or a folder" in said.err
    assert "256 images -> " in said.out
    assert Image.open(path).height < 5000


# ---- folders ------------------------------------------------------------------------------------


def test_a_folder_fills_as_images_are_drawn(
    pipeline: ImagePipeline, tmp_path: Path, drawn: list[list[int]]
) -> None:
    folder = tmp_path / "many"
    stopped(drawn, 2, pipeline, 7, output=folder, batch_size=2)
    assert names_in(folder) == [".samples.json", *(f"{i:06d}.png" for i in range(4))]
    kept = (folder / "000001.png").read_bytes()
    (folder / "000002.png").write_bytes(kept[:60])
    sample(pipeline, 7, output=folder, batch_size=2)
    assert batches(drawn) == [[2, 4], [5, 6]]
    assert names_in(folder) == [".samples.json", *(f"{i:06d}.png" for i in range(7))]
    listed = sample(pipeline, 7)
    for i, expected in enumerate(listed):
        found = np.asarray(Image.open(folder / f"{i:06d}.png"))
        assert np.abs(found - (expected * 255.0).round().permute(1, 2, 0).numpy()).max() <= 1


def test_a_finished_folder_can_grow(
    pipeline: ImagePipeline, tmp_path: Path, drawn: list[list[int]]
) -> None:
    drawn.append([-2])
    sample(pipeline, 3, output=tmp_path / "many")
    sample(pipeline, 5, output=tmp_path / "many", batch_size=8)
    assert batches(drawn) == [[0, 1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (2, {}, "holds 000002.png and 0 others beside the first 2 samples"),
        (3, {"seed": 1}, "holds 3 files, which are no samples of these settings"),
    ],
)
def test_images_of_two_calls_are_not_mixed(
    pipeline: ImagePipeline, tmp_path: Path, count: int, options: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "many"
    sample(pipeline, 3, output=folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=f"{message}.*choose another --output"):
        sample(pipeline, count, output=folder, **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_files_of_others_are_left_alone(pipeline: ImagePipeline, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds 1 files, which are no samples"):
        sample(pipeline, 1, output=tmp_path)
    (tmp_path / "photo.jpg").unlink()
    (tmp_path / ".samples.json").write_text("no JSON")
    sample(pipeline, 1, output=tmp_path)
    assert json.loads((tmp_path / ".samples.json").read_text()).keys() == {"settings"}


def test_arrays_go_into_files_of_their_own(tmp_path: Path) -> None:
    task, rows = ArrayTask(), list(torch.rand(3, 4, 2))
    task.write(tmp_path / "a.npz", rows)
    assert np.array_equal(np.load(tmp_path / "a.npz")["samples"], torch.stack(rows))
    task.write_one(tmp_path / "0.npy", rows[0])
    assert np.array_equal(np.load(tmp_path / "0.npy"), rows[0])
    assert task.is_sound(tmp_path / "0.npy")
    (tmp_path / "0.npy").write_bytes((tmp_path / "0.npy").read_bytes()[:-4])
    assert not task.is_sound(tmp_path / "0.npy")
    assert all(torch.equal(a, b) for a, b in zip(task.unpack(task.pack(rows)), rows, strict=True))


# ---- what is asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
        ({"num_samples": 2.5}, "num_samples must be a whole number of at least 1, got 2.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"seed": 2**63 - 10}, "a seed must be a whole number from"),
        ({"seed": 0.5}, "a seed must be a whole number from"),
        ({"guidance_scal": 2.0}, "^sample takes no argument 'guidance_scal'.*is guidance_scale$"),
        ({"seeds": [1]}, "^sample takes no argument 'seeds'.*the nearest is seed$"),
        ({"num_atoms": 3}, "^sample takes no argument 'num_atoms'"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a number"),
        ({"classes": ["cow"]}, "unknown class 'cow'"),
        ({"output": "a.tar"}, "must end in .png or .npz or have no suffix"),
    ],
)
def test_what_sample_cannot_do_is_one_sentence(
    pipeline: ImagePipeline, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        sample(pipeline, **options)


def test_numbers_of_other_packages_are_taken(pipeline: ImagePipeline) -> None:
    plain = sample(pipeline, 2, classes=[1, "cat"], seed=3)
    found = sample(pipeline, np.int64(2), classes=np.array(["bee", "2"]), seed=np.int32(3))
    assert torch.equal(torch.stack(plain), torch.stack(found))
    assert len(sample(pipeline, 3, classes="cat", batch_size=np.int64(2))) == 3


def test_images_are_completed_from_files_and_keep_what_is_known(
    pipeline: ImagePipeline, tmp_path: Path
) -> None:
    """A mask is white where pixels are known; both files have another size than the model."""
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(
        tmp_path / "a.png"
    )
    white = np.zeros((16, 24), dtype=np.uint8)
    white[:8] = 255
    Image.fromarray(white).save(tmp_path / "mask.png")
    files = {"observed": str(tmp_path / "a.png"), "mask": str(tmp_path / "mask.png")}
    seen = pipeline.preprocess(files["observed"])[0]
    found = sample(pipeline, 3, batch_size=2, paste=True, **files, **FAST)
    assert all(torch.equal(image[:, :4], seen[:, :4]) for image in found)
    assert all((image[:, 4:] - seen[:, 4:]).abs().max() > 0.01 for image in found)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4] = True
    alike = pipeline.generate(None, seeds=range(3), observed=seen[None], mask=mask, **FAST)
    own = sample(pipeline, 3, batch_size=2, **files, **FAST)
    torch.testing.assert_close(torch.stack(own), alike, rtol=0, atol=1e-5)


def test_each_image_can_have_its_own_mask(pipeline: ImagePipeline) -> None:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    for i in range(3):
        masks[i, :, : 4 * (i % 2) + 4] = True
    found = sample(pipeline, 3, batch_size=2, observed=images, mask=masks, paste=True, **FAST)
    for image, seen, mask in zip(found, images, masks, strict=True):
        assert torch.equal(image[:, mask], seen[:, mask])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"observed": torch.rand(1, 3, 8, 8)}, "observed and mask belong together"),
        ({"paste": True}, "observed and mask belong together"),
        ({"observed": torch.rand(2, 3, 8, 8), "mask": torch.ones(8, 8) > 0}, "or 3, got 2"),
        ({"observed": torch.rand(1, 3, 8, 8), "mask": torch.ones(4, 8) > 0}, "got .4, 8. of"),
    ],
)
def test_what_cannot_be_completed_is_one_sentence(
    pipeline: ImagePipeline, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sample(pipeline, 3, **given, **FAST)


def test_a_mask_that_shows_no_whole_patch_is_a_warning(pipeline: ImagePipeline) -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[1:3, 1:3] = True
    with pytest.warns(UserWarning, match="no patch of 4 x 4 pixels is known whole"):
        sample(pipeline, 1, observed=torch.rand(1, 3, 8, 8), mask=mask, **FAST)


def test_another_image_to_complete_is_another_folder_of_samples(
    pipeline: ImagePipeline, tmp_path: Path
) -> None:
    mask = torch.ones(8, 8, dtype=torch.bool)

    def complete(seed: int) -> Any:
        image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        return sample(pipeline, 2, output=tmp_path / "it", observed=image, mask=mask, **FAST)

    assert complete(0) == complete(0)
    with pytest.raises(ValueError, match="holds 2 files, which are no samples of these settings"):
        complete(1)

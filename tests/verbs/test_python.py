"""The verbs as functions: on what a program has in memory, in silence."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny import tiny_config
from tests.verbs.test_atoms import crystals, molecules

import openunite
from openunite.data.atoms.convert import to_ase, to_pymatgen, to_rdkit
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.modalities.atoms.task import AtomTask
from openunite.modalities.image.task import ImageTask
from openunite.runs import Run
from openunite.training.trainer import Trainer

NAMES = ["cat", "dog", "eel"]
COUNT = 60


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), dtype=np.uint8)


LABELS = np.arange(COUNT) % 3


class Images(torch.utils.data.Dataset):
    """A data set of torch: a tensor (1, H, W) in [0, 1], and a label."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(pixels()[i]).float()[None] / 255.0, int(LABELS[i])


def settings(**changes: Any) -> openunite.RunConfig:
    config = tiny_config(num_classes=None, steps=3, batch_size=8, **changes)
    return replace(config, data=replace(config.data, holdout_share=0.2))


def forms() -> dict[str, Any]:
    """The same images with the same labels, as programs have them."""
    images = [Image.fromarray(image) for image in pixels()]
    return {
        "pairs": list(zip(images, LABELS.tolist(), strict=True)),
        "images and labels": (images, LABELS),
        "arrays": (pixels(), LABELS),
        "tensors": (torch.from_numpy(pixels())[:, None], torch.from_numpy(LABELS)),
        "a data set of torch": Images(),
        "rows": [{"image": i, "label": n} for i, n in zip(images, LABELS.tolist(), strict=True)],
        "a mapping": {"images": pixels(), "labels": LABELS},
    }


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn or measured at the end of a run."""
    monkeypatch.setattr(ImageTask, "finish", lambda *_: {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on the images in a file, whose data can be opened again."""
    home = tmp_path_factory.mktemp("python")
    np.savez(home / "own.npz", images=pixels(), labels=LABELS, class_names=np.array(NAMES))
    return openunite.train(settings(), home / "own.npz", output=home / "run")


# ---- training -------------------------------------------------------------------------------


@pytest.mark.usefixtures("unjudged")
@pytest.mark.parametrize("form", list(forms()))
def test_the_same_images_are_the_same_run_however_they_are_held(
    form: str, tmp_path: Path, run: Run
) -> None:
    np.savez(tmp_path / "nameless.npz", images=pixels(), labels=LABELS)
    config = settings(data__source=str(tmp_path / "nameless.npz"))
    in_a_file = ImageTask().open(config, config.data.source, progress=False)
    found = openunite.train(settings(), forms()[form], output=tmp_path / "run")
    assert found.state == "finished"
    assert found.record["fingerprint"] == in_a_file.fingerprint
    assert [row["loss"] for row in found.log] == [row["loss"] for row in run.log]
    assert found.config.data.source == "in memory"
    assert found.config.num_classes == 3


@pytest.mark.usefixtures("unjudged")
def test_a_hub_data_set_in_memory_keeps_its_class_names(tmp_path: Path, run: Run) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    images = [Image.fromarray(image) for image in pixels()]
    rows = datasets.Dataset.from_dict({"image": images, "label": LABELS.tolist()}, features)
    found = openunite.train(settings(), rows, output=tmp_path / "run")
    assert found.record["class_names"] == NAMES == run.record["class_names"]
    assert found.record["fingerprint"] == run.record["fingerprint"]


@pytest.mark.usefixtures("unjudged")
def test_a_list_of_images_without_labels_has_no_classes(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels()]
    found = openunite.train("images", images, output=tmp_path / "run", steps=2, size="nano")
    assert found.config.num_classes == 0
    assert found.config.modality_config["channels"] == 1
    assert (found.config.modality_config["height"], len(found.log)) == (28, 2)
    assert found.pipeline.config.class_names == []


@pytest.mark.usefixtures("unjudged")
def test_a_run_goes_on_with_its_data_and_refuses_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (pixels(), LABELS)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            openunite.train(settings(), data, output=tmp_path / "run")
    assert Run(tmp_path / "run").state == "new"
    changed = pixels()
    changed[7, 3, 3] ^= 1
    for other in ((changed, LABELS), (pixels()[::-1], LABELS), (pixels(), 2 - LABELS)):
        with pytest.raises(ValueError, match=r"the data behind in memory changed since .*run"):
            openunite.train(settings(), other, output=tmp_path / "run")
    assert openunite.train(settings(), data, output=tmp_path / "run").state == "finished"


def test_a_data_set_whose_items_are_random_is_refused(tmp_path: Path) -> None:
    class Noisy(Images):
        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return torch.rand(1, 28, 28), int(LABELS[i])

    with pytest.raises(ValueError, match=r"read twice.*take the random transform out"):
        openunite.train(settings(), Noisy(), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_without_a_length_are_refused(tmp_path: Path) -> None:
    def stream() -> Iterator[Image.Image]:
        yield from (Image.fromarray(image) for image in pixels())

    with pytest.raises(ValueError, match="a data set with a length, got generator; make a list"):
        openunite.train(settings(), stream(), output=tmp_path / "run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step": 3}, "unknown option step, .*the nearest is steps"),
        ({"steps": 3, "minutes": 1.0}, "give --minutes or --steps, not both"),
        ({"set": "model.dept=3"}, r"unknown field model\.dept, .*the nearest is depth"),
        ({"max_atoms": 3}, "--max-atoms is not for images"),
    ],
)
def test_options_that_cannot_be_are_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        openunite.train(settings(), pixels(), output=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("unjudged")
def test_nothing_is_printed_unless_progress_is_asked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = openunite.train(settings(), pixels(), output=tmp_path / "silent")
    openunite.sample(run, 2, output=tmp_path / "a.png")
    openunite.reconstruct(run, list(pixels()[:2]))
    openunite.encode(run, list(pixels()[:2]), output=tmp_path / "z.npz")
    openunite.report(run)
    assert capfd.readouterr() == ("", "")
    openunite.train(settings(), pixels(), output=tmp_path / "shown", progress=True)
    assert "48 training and 12 held-out images" in capfd.readouterr().out
    openunite.sample(run, 2, output=tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")  # `progress` was for that call alone


@pytest.mark.usefixtures("unjudged")
def test_callbacks_hear_every_step_every_preview_and_the_end(tmp_path: Path) -> None:
    rows, previews, ends = list[dict[str, float]](), list[tuple[Path, int]](), list[Run]()
    run = openunite.train(
        settings(preview_every=2),
        pixels(),
        output=tmp_path / "run",
        set="log_every=1",
        on_step=rows.append,
        on_preview=lambda picture, step: previews.append((picture, step)),
        on_end=ends.append,
    )
    assert rows == run.log
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [step for _, step in previews] == [2, 3]  # the last one is of the end
    assert all(picture.is_file() for picture, _ in previews)
    assert ends == [run]


# ---- a trained model ------------------------------------------------------------------------


def test_samples_come_back_and_are_written(run: Run, tmp_path: Path) -> None:
    samples = openunite.sample(run, 5, seed=3, num_inference_steps=2)
    assert [tuple(image.shape) for image in samples] == [(1, 28, 28)] * 5
    again = openunite.sample(run.pipeline, 5, seed=3, num_inference_steps=2, batch_size=2)
    assert torch.allclose(torch.stack(samples), torch.stack(again), atol=1e-4)
    path = openunite.sample(run.folder, 2, classes=["eel"], output=tmp_path / "eels.npz")
    eels = torch.from_numpy(np.load(path)["images"])
    assert eels.shape == (2, 28, 28, 1)
    numbered = torch.stack(openunite.sample(run, 2, classes=[2])).permute(0, 2, 3, 1)
    assert torch.equal(eels, (numbered * 255.0).round().byte())
    with pytest.raises(ValueError, match="num_samples must be a whole number of at least 1, got 0"):
        openunite.sample(run, 0)
    with pytest.raises(ValueError, match="unknown class 'cow'"):
        openunite.sample(run, 1, classes=["cow"])


def test_images_in_memory_and_in_files_are_reconstructed_alike(run: Run, tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels()[:3]]
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    inputs, outputs = openunite.reconstruct(run, images, output=tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").is_file()
    from_files = openunite.reconstruct(run, paths, num_samples=2)
    assert len(from_files[0]) == 2
    assert torch.equal(from_files[0][0], inputs[0])
    assert torch.allclose(from_files[1][0], outputs[0], atol=1e-4)
    assert torch.equal(inputs[0], torch.from_numpy(pixels()[0])[None] / 255.0)


def test_latents_come_with_the_names_of_what_they_are_of(run: Run, tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in pixels()[:3]]
    found = openunite.encode(run, images, batch_size=2, output=tmp_path / "z.npz")
    assert found["latents"].shape == (3, 4, 8)
    assert found["files"].tolist() == ["item 0", "item 1", "item 2"]
    saved = np.load(tmp_path / "z.npz")
    assert {name: saved[name].tolist() for name in saved} == {
        k: v.tolist() for k, v in found.items()
    }


def test_a_run_is_evaluated_on_its_data_and_on_data_in_memory(run: Run, tmp_path: Path) -> None:
    def pool(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1), images.mean((2, 3))

    extractor = CallableExtractor("pool", 4, "sum of pool", pool)
    options = {"num_samples": 10, "num_inference_steps": 2, "extractor": extractor}
    card = openunite.evaluate(run, output=str(tmp_path / "card.json"), **options)
    assert (card.samples.count, card.reference.count) == (10, 12)
    data = {"images": pixels(), "labels": LABELS, "class_names": np.array(NAMES)}
    other = openunite.evaluate(run.folder, data, output=str(tmp_path / "other.json"), **options)
    assert other.reference.checksum == card.reference.checksum
    assert other.metrics["unguided"]["fd"] == card.metrics["unguided"]["fd"]
    for wrong in ("num_sample", "compare", "source"):
        with pytest.raises((ValueError, TypeError), match=wrong):
            openunite.evaluate(run, **options, **{wrong: "x"})
    with pytest.raises(ValueError, match="got 'posters'"):
        openunite.evaluate(run, extractor="posters")


def test_a_run_is_analyzed_and_reported(run: Run, tmp_path: Path) -> None:
    found = openunite.analyze(run, num_images=16, output=tmp_path / "analysis")
    assert {entry["name"] for entry in found["analyses"]} >= {"dynamics", "probe", "memorization"}
    assert (tmp_path / "analysis" / "analysis.json").is_file()
    page = openunite.report(run, output=tmp_path / "page.html")
    assert page == tmp_path / "page.html"
    assert "</html>" in page.read_text()
    with pytest.raises(ValueError, match=r"--output must end in \.html"):
        openunite.report(run, output=tmp_path / "page.pdf")
    with pytest.raises(ValueError, match="--num-images must be at least 16"):
        openunite.analyze(run, num_images=3)


@pytest.mark.usefixtures("unjudged")
def test_data_that_were_in_memory_are_asked_for(tmp_path: Path) -> None:
    run = openunite.train(settings(), pixels(), output=tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no image source at in memory"):
        openunite.analyze(run)
    with pytest.raises(ValueError, match="were in the memory of a program; give them again"):
        openunite.evaluate(run)
    with pytest.raises(ValueError, match="were in the memory of a program; give them again"):
        openunite.train(run.folder / "config.yaml", output=tmp_path / "again")


# ---- molecules and crystals -----------------------------------------------------------------


@pytest.mark.parametrize("package", ["ase", "rdkit"])
def test_molecules_of_other_programs_are_trained_on(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rdkit")
    pytest.importorskip(package)
    monkeypatch.setattr(AtomTask, "finish", lambda *_: {})
    convert = {"ase": to_ase, "rdkit": to_rdkit}[package]
    given, own = [convert(item) for item in molecules()], molecules()
    tiny = {"steps": 2, "batch_size": 4, "set": ("objective.flow_draws=1",)}
    run = openunite.train("molecules", given, output=tmp_path / "run", **tiny)
    assert run.config.modality_config == {"elements": [1, 8], "max_atoms": 3}
    assert (
        run.record["fingerprint"]
        == openunite.train("molecules", own, output=tmp_path / "own", **tiny).record["fingerprint"]
    )
    inputs, outputs = openunite.reconstruct(run, given[:2])
    assert [len(item) for item in outputs] == [3, 3]
    assert np.allclose(inputs[0].positions, own[0].positions)
    assert openunite.encode(run, given[:2])["num_atoms"].tolist() == [3, 3]
    assert [len(item) for item in openunite.sample(run, 3, num_atoms=2)] == [2, 2, 2]
    with pytest.raises(ValueError, match="expected ASE Atoms, RDKit molecules or pymatgen"):
        openunite.reconstruct(run, [3])


@pytest.mark.parametrize("package", ["ase", "pymatgen"])
def test_crystals_of_other_programs_are_trained_on(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("smact")
    pytest.importorskip(package)
    monkeypatch.setattr(AtomTask, "finish", lambda *_: {})
    convert = {"ase": to_ase, "pymatgen": to_pymatgen}[package]
    run = openunite.train(
        "crystals",
        [convert(item) for item in crystals()],
        output=tmp_path / "run",
        steps=2,
        batch_size=4,
        set=("objective.flow_draws=1",),
    )
    assert run.config.modality_config == {"elements": [11, 17], "max_atoms": 20}
    assert run.record["train_size"] + run.record["test_size"] == len(crystals())
    assert all(item.cell is not None for item in openunite.sample(run, 2))

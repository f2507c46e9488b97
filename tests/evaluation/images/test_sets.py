"""Samples and reconstructions in shards, and their metrics by another route."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from openunite.evaluation.feature_metrics import kernel_distance, precision_recall
from openunite.evaluation.frechet import frechet_distance, statistics
from openunite.evaluation.images.feature_sets import FeatureSet, extract, gather
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.evaluation.images.perceptual import gradient_distance
from openunite.evaluation.images.sets import (
    Judge,
    evaluations_in,
    images_in,
    reconstruct_shards,
    reconstruction_metrics,
    sample_shards,
    to_bytes,
)
from openunite.evaluation.shards import Crew, Shards

LABELS = torch.arange(30) % 3


def draw(labels: Tensor | None, seeds: range, scale: float) -> tuple[Tensor, int]:
    """An image of noise by seed, brighter by class; a little out of range, as models are."""
    noise = [torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(s)) for s in seeds]
    images = torch.stack(noise) * 1.1 - 0.05
    return (images if labels is None else images + 0.01 * labels.view(-1, 1, 1, 1)), 7


def pool(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[:, 0, :3, 0], torch.eye(3)[(images.flatten(1).sum(1) * 7).long() % 3]


EXTRACTOR = CallableExtractor("pool", 3, "1", pool)


def test_a_sample_depends_on_its_seed_and_label_alone(tmp_path: Path) -> None:
    whole = sample_shards(draw, LABELS, 5, 1.0, Shards(tmp_path / "a", 30, 30), Crew())
    parts = sample_shards(draw, LABELS, 5, 1.0, Shards(tmp_path / "b", 30, 7), Crew())
    one = torch.cat([shard["images"] for shard in whole.read()])
    assert torch.equal(one, torch.cat([shard["images"] for shard in parts.read()]))
    expected, _ = draw(LABELS[8:9], range(13, 14), 1.0)
    assert torch.equal(one[8:9], to_bytes(expected))
    assert torch.equal(images_in(parts)(parts.positions(2)), one[14:21])
    assert evaluations_in(parts) == 7.0


def test_without_classes_there_are_no_labels(tmp_path: Path) -> None:
    shards = sample_shards(draw, None, 0, 1.0, Shards(tmp_path, 4, 4), Crew())
    (shard,) = shards.read()
    assert torch.equal(shard["images"], to_bytes(draw(None, range(4), 1.0)[0]))


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


def test_judging_equals_the_functions_one_by_one() -> None:
    reference, found = features(60, 0), features(60, 1)
    metrics = Judge(reference, "FD-pool", judges_classes=True).judge(found, torch.zeros(60).long())
    assert metrics["FD-pool"] == frechet_distance(found.gaussian, reference.gaussian)
    x, y = found.features.double(), reference.features.double()
    kid = kernel_distance(x, y)
    assert (metrics["KID"], metrics["KID deviation"]) == (kid.mean, kid.deviation)
    both = precision_recall(x, y)
    assert (metrics["precision"], metrics["recall"]) == (both.precision, both.recall)
    assert metrics["class accuracy"] == pytest.approx(1 / 3)
    assert 2.5 < metrics["score (as IS)"] < 3.0
    assert Judge(reference, "FD", False).judge(reference, None)["FD"] < 1e-6


def test_only_fid_has_the_inception_score() -> None:
    named = Judge(features(60, 0), "FID", False).judge(features(60, 1), LABELS)
    assert "inception score" in named
    assert "class accuracy" not in named


def test_a_few_real_images_have_no_score() -> None:
    metrics = Judge(features(60, 0), "FD", True).judge(features(9, 1), LABELS[:9])
    assert {"KID", "class accuracy"} < set(metrics)
    assert not any("score" in name for name in metrics)


def test_reconstruction_metrics_by_another_route(tmp_path: Path) -> None:
    real = torch.randint(
        0, 256, (30, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )

    def fetch(positions: range) -> Tensor:
        return real[list(positions)]

    def darken(images: Tensor) -> Tensor:
        return images * 0.5

    shards = reconstruct_shards(
        darken, fetch, Shards(tmp_path / "r", 30, 8), Crew(), gradient_distance
    )
    found = extract(
        EXTRACTOR, images_in(shards), Shards(tmp_path / "r" / "f", 30, 8), Crew(), "pool"
    )
    originals = extract(EXTRACTOR, fetch, Shards(tmp_path / "o", 30, 8), Crew(), "pool")
    metrics = reconstruction_metrics(shards, gather(found), gather(originals), "FD-pool")
    out, aim = (real / 255.0 * 0.5 * 255).round() / 255, real / 255.0
    error = (out - aim).double()
    psnr = -10 * error.square().flatten(1).mean(1).log10()
    assert metrics["psnr_db"] == pytest.approx(float(psnr.mean()), rel=1e-5)
    assert metrics["l1"] == pytest.approx(float(error.abs().mean()), rel=1e-5)
    assert metrics["lpips"] == pytest.approx(float(gradient_distance(out, aim).mean()), rel=1e-5)
    distance = frechet_distance(statistics(pool(out)[0]), statistics(pool(aim)[0]))
    assert metrics["rFD-pool"] == pytest.approx(distance, rel=1e-4)
    assert 0.0 < metrics["ssim"] < 1.0

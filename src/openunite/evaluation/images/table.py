"""The metrics of images: a new one is a function and a row.

A set metric looks at the features (and logits) of all images at once, a pair metric at an image
and its reconstruction. `ImageMetrics` computes them for `train`, `evaluate` and `sweep` alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from openunite.evaluation.feature_metrics import (
    IS_SPLITS,
    KID_SUBSETS,
    NEIGHBORS,
    class_accuracy,
    inception_score,
    kernel_distance,
    kid_subset_size,
    precision,
)
from openunite.evaluation.frechet import frechet_distance
from openunite.evaluation.images.feature_sets import KEPT, FeatureSet, choose
from openunite.evaluation.images.metrics import SSIM_SIDE, l1, psnr, ssim
from openunite.evaluation.images.perceptual import MIN_SIDE, Distance
from openunite.evaluation.measured import Columns, Flat, Measured, Metric, Vocabulary

MANIFOLD = 10_000  # features that precision, recall and KID take from a larger set


@dataclass(frozen=True)
class Comparison:
    """What a set metric sees: a set, the reference, and a label per image where classes match."""

    found: FeatureSet
    reference: FeatureSet
    labels: Tensor | None = None

    @property
    def points(self) -> tuple[Tensor, Tensor]:
        """At most MANIFOLD features of the set and of the reference."""
        found, reference = self.found.features, self.reference.features
        return found[choose(len(found), MANIFOLD)], reference[choose(len(reference), MANIFOLD)]


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A metric of a set of images; `needs` says what must be there to compute it."""

    compute: Callable[[Comparison], Measured]
    needs: Literal["features", "logits", "classes"] = "features"
    min_images: int = 1


@dataclass(frozen=True, kw_only=True)
class PairMetric(Metric):
    """A metric of outputs against targets (B, C, H, W) in [0, 1], one value (B,) per pair."""

    compute: Callable[[Tensor, Tensor], Tensor]
    min_side: int = 1


def _frechet(sets: Comparison) -> Measured:
    return Measured(frechet_distance(sets.found.gaussian, sets.reference.gaussian))


def _kid(sets: Comparison) -> Measured:
    return kernel_distance(*sets.points)


def _precision(sets: Comparison) -> Measured:
    found, reference = sets.points
    return Measured(precision(found, reference))


def _recall(sets: Comparison) -> Measured:
    found, reference = sets.points
    return Measured(precision(reference, found))


def _score(sets: Comparison) -> Measured:
    assert sets.found.logits is not None  # the row needs logits
    return inception_score(sets.found.logits)


def _accuracy(sets: Comparison) -> Measured:
    assert sets.found.logits is not None  # the row needs classes
    assert sets.labels is not None
    return class_accuracy(sets.found.logits, sets.labels[sets.found.rows])


FD = SetMetric(
    "fd",
    "{distance}",
    "lower",
    "Frechet distance between the features of these images and those of the reference",
    "{:.2f}",
    compute=_frechet,
)
RECONSTRUCTION_FD = SetMetric(
    "rfd",
    "r{distance}",
    "lower",
    "Frechet distance between the features of reconstructions and those of their originals",
    "{:.2f}",
    compute=_frechet,
)
ACCURACY = SetMetric(
    "class_accuracy",
    "class accuracy",
    "higher",
    "Fraction of images that the classifier recognizes as their class",
    "{:.1%}",
    compute=_accuracy,
    needs="classes",
)
KID = SetMetric(
    "kid",
    "KID",
    "lower",
    "Kernel distance between features; unbiased, so it can be negative",
    error="std over subsets",
    compute=_kid,
)
PRECISION = SetMetric(
    "precision",
    "precision",
    "higher",
    "Fraction of these images that lie near real ones",
    "{:.1%}",
    compute=_precision,
)
RECALL = SetMetric(
    "recall",
    "recall",
    "higher",
    "Fraction of real images that lie near these",
    "{:.1%}",
    compute=_recall,
)
SCORE = SetMetric(
    "inception_score",
    "{score}",
    "higher",
    "How sure the classifier is of each image, and how varied the classes are",
    error="std over splits",
    compute=_score,
    needs="logits",
    min_images=IS_SPLITS,
)
SET_METRICS = (FD, KID, PRECISION, RECALL, SCORE, ACCURACY)

PSNR = PairMetric(
    "psnr_db",
    "PSNR (dB)",
    "higher",
    "Peak signal-to-noise ratio of reconstructions",
    "{:.1f} dB",
    compute=psnr,
)
L1 = PairMetric(
    "l1", "L1", "lower", "Mean absolute error of reconstructed pixels in [0, 1]", compute=l1
)
SSIM = PairMetric(
    "ssim", "SSIM", "higher", "Structural similarity", compute=ssim, min_side=SSIM_SIDE
)


def lpips_metric(distance: Distance | None) -> PairMetric:
    """The row of LPIPS, which has weights; without them it describes, but cannot compute."""

    @torch.no_grad()
    def compute(output: Tensor, target: Tensor) -> Tensor:
        assert distance is not None  # asked of a row that only describes
        return distance(output, target)

    return PairMetric(
        "lpips", "LPIPS", "lower", "Perceptual distance", compute=compute, min_side=MIN_SIDE
    )


PAIR_METRICS = (L1, PSNR, SSIM)
NFE = Metric("nfe", "NFE", "lower", "Network evaluations per sample, not counting guidance")
METRICS: tuple[Metric, ...] = (
    *SET_METRICS,
    RECONSTRUCTION_FD,
    *PAIR_METRICS,
    lpips_metric(None),
    NFE,
)


@dataclass(frozen=True)
class ImageMetrics:
    """Measures sets of images against a reference.

    `has_classes` is True where the logits of the extractor stand for the classes of the labels.
    """

    reference: FeatureSet
    has_classes: bool
    metrics: Sequence[SetMetric] = SET_METRICS

    def evaluate(self, found: FeatureSet, labels: Tensor | None) -> dict[str, Measured]:
        """Every metric whose needs are met."""
        sets = Comparison(found, self.reference, labels if self.has_classes else None)
        return {m.name: m.compute(sets) for m in self.metrics if _can_compute(m, sets)}


def _can_compute(metric: SetMetric, sets: Comparison) -> bool:
    has = {"features"}
    if sets.found.logits is not None:
        has |= {"logits"} | (set() if sets.labels is None else {"classes"})
    return metric.needs in has and len(sets.found.features) >= metric.min_images


def pair_metrics(side: int, lpips: Distance | None) -> list[PairMetric]:
    """The pair metrics for images whose shorter side is `side`; LPIPS where it has weights."""
    rows = [*PAIR_METRICS, *([] if lpips is None else [lpips_metric(lpips)])]
    return [row for row in rows if side >= row.min_side]


def settings(samples: int, reference: int) -> dict[str, str]:
    """How the metrics are computed for so many images; a card keeps it."""
    return {
        "pixels": "8 bits",
        "kid": f"{KID_SUBSETS} subsets of {kid_subset_size(samples, reference)}, seed 0",
        "precision_recall": f"{NEIGHBORS} neighbors, at most {MANIFOLD} images of each set",
        "inception_score": f"{IS_SPLITS} splits, at most {KEPT} images",
        "class_accuracy": f"at most {KEPT} images",
        "ssim": "Gaussian windows of 11 pixels, std 1.5",
    }


# ---- metrics.json --------------------------------------------------------------------------

_FLAT = {
    "recon_psnr_db": ("reconstructions", PSNR),
    "recon_l1": ("reconstructions", L1),
    "fd_samples": ("unguided", FD),
    "fd_samples_guided": ("guided", FD),
    "fd_recon": ("reconstructions", RECONSTRUCTION_FD),
    "fd_blur": ("blurred images", FD),
    "fd_real": ("real images", FD),
    "sample_accuracy": ("unguided", ACCURACY),
    "sample_accuracy_guided": ("guided", ACCURACY),
    "classifier_test_accuracy": ("reference", ACCURACY),
}


def flat_metrics(columns: Columns) -> Flat:
    """The values of a card under the names of metrics.json and of the table of a study."""
    return {
        name: columns[column][metric.name].value
        for name, (column, metric) in _FLAT.items()
        if metric.name in columns.get(column, {})
    }


IMAGES = Vocabulary(METRICS, flat_metrics)

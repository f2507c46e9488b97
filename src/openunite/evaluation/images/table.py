"""The metrics of images: a new one is a function and a row.

A set metric looks at the features (and logits) of all images at once, a pair metric at an image
and its reconstruction, a pixel metric (`pixels.py`) at the pixels of a set and of real images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from openunite.evaluation.feature_metrics import (
    COPY_HELD_OUT,
    IS_SPLITS,
    KID_SUBSETS,
    NEIGHBORS,
    class_accuracy,
    copies,
    inception_score,
    kernel_distance,
    kid_subset_size,
    precision,
)
from openunite.evaluation.frechet import GaussianStatistics, frechet_distance
from openunite.evaluation.images.feature_sets import KEPT, FeatureSet, choose
from openunite.evaluation.images.metrics import SSIM_SIDE, l1, psnr, ssim
from openunite.evaluation.images.perceptual import MIN_SIDE, Distance
from openunite.evaluation.images.pixels import ALPHA, PIXEL_METRICS, SEAMS
from openunite.evaluation.measured import Columns, Flat, Measured, Metric, Vocabulary, vocabulary

M = TypeVar("M", bound=Metric)
MIN_IMAGES = 4  # KID, precision and recall need as many of each set
MANIFOLD = 10_000  # features that precision, recall and KID take from a larger set


@dataclass(frozen=True)
class Comparison:
    """What a set metric sees: a set, the reference, and a label per image where classes match.

    `train` are features of the training images, where copies of them are looked for.
    """

    found: FeatureSet
    reference: FeatureSet
    labels: Tensor | None = None
    train: FeatureSet | None = None

    @property
    def gaussians(self) -> tuple[GaussianStatistics, GaussianStatistics]:
        return self.found.gaussian, self.reference.gaussian

    @property
    def points(self) -> tuple[Tensor, Tensor]:
        """At most MANIFOLD features of the set and of the reference."""
        found, reference = self.found.features, self.reference.features
        return found[choose(len(found), MANIFOLD)], reference[choose(len(reference), MANIFOLD)]

    @property
    def logits(self) -> Tensor:
        """For metrics that need logits."""
        assert self.found.logits is not None
        return self.found.logits

    @property
    def known_labels(self) -> Tensor:
        """For metrics that need classes: one label per row of the logits."""
        assert self.labels is not None
        return self.labels[self.found.rows]


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A metric of a set of images; `needs` says what must be there to compute it."""

    compute: Callable[[Comparison], Measured]
    needs: Literal["features", "logits", "classes", "train", "pixels"] = "features"
    min_images: int = 1
    min_reference: int = 1


@dataclass(frozen=True, kw_only=True)
class PairMetric(Metric):
    """A metric of outputs against targets (B, C, H, W) in [0, 1], one value (B,) per pair."""

    compute: Callable[[Tensor, Tensor], Tensor]
    min_side: int = 1


def _frechet(sets: Comparison) -> Measured:
    return Measured(frechet_distance(*sets.gaussians))


def _copies(sets: Comparison, kind: Literal["features", "pixels"]) -> Measured:
    return copies(*(getattr(each, kind) for each in (sets.found, sets.reference, sets.train)))


FD = SetMetric(
    *("fd", "{distance}", "lower"),
    words="Frechet distance of features from those of the reference",
    form="{:.2f}",
    compute=_frechet,
)
RECONSTRUCTION_FD = SetMetric(
    *("rfd", "r{distance}", "lower"),
    words="Frechet distance of the features of reconstructions from those of their originals",
    form="{:.2f}",
    compute=_frechet,
)
KID = SetMetric(
    *("kid", "KID", "lower"),
    words="Kernel distance of features; unbiased, so it can be negative",
    compute=lambda sets: kernel_distance(*sets.points),
    min_images=MIN_IMAGES,
    min_reference=MIN_IMAGES,
)
PRECISION = SetMetric(
    *("precision", "precision", "higher"),
    words="Fraction of these images that lie near real ones",
    compute=lambda sets: Measured(precision(*sets.points)),
    min_images=MIN_IMAGES,
    min_reference=MIN_IMAGES,
)
RECALL = SetMetric(
    *("recall", "recall", "higher"),
    words="Fraction of real images that lie near these",
    compute=lambda sets: Measured(precision(*sets.points[::-1])),
    min_images=MIN_IMAGES,
    min_reference=MIN_IMAGES,
)
SCORE = SetMetric(
    *("inception_score", "{score}", "higher"),
    words="How sure the classifier is of each image, and how varied the classes are",
    error="std over splits",
    compute=lambda sets: inception_score(sets.logits),
    needs="logits",
    min_images=IS_SPLITS,
)
ACCURACY = SetMetric(
    *("class_accuracy", "class accuracy", "higher"),
    words="Fraction of images that the classifier recognizes as their class",
    form="{:.1%}",
    compute=lambda sets: class_accuracy(sets.logits, sets.known_labels),
    needs="classes",
)
COPIES = SetMetric(
    *("copies", "copies, features", "lower"),
    words="Fraction of images whose features lie nearer to a training image's than those of 99 % "
    "of the held-out images do; without copies about 1 %",
    form="{:.1%}",
    compute=lambda sets: _copies(sets, "features"),
    needs="train",
    min_reference=COPY_HELD_OUT,
)
PIXEL_COPIES = replace(
    COPIES,
    name="pixel_copies",
    label="copies, pixels",
    words=COPIES.words.replace("features lie", "pixels lie"),
    compute=lambda sets: _copies(sets, "pixels"),
    needs="pixels",
)
COPY_METRICS = (COPIES, PIXEL_COPIES)
SET_METRICS = (FD, KID, PRECISION, RECALL, SCORE, ACCURACY)

L1 = PairMetric("l1", "L1", "lower", "Mean absolute error of pixels in [0, 1]", compute=l1)
PSNR = PairMetric(
    "psnr_db", "PSNR (dB)", "higher", "Peak signal-to-noise ratio", "{:.1f} dB", compute=psnr
)
SSIM = PairMetric(
    "ssim", "SSIM", "higher", "Structural similarity", compute=ssim, min_side=SSIM_SIDE
)


def lpips_metric(distance: Distance | None) -> PairMetric:
    """The row of LPIPS. Without a distance, whose weights are extra, it only describes."""

    @torch.no_grad()
    def compute(output: Tensor, target: Tensor) -> Tensor:
        assert distance is not None  # this row only describes
        return distance(output, target)

    return PairMetric(
        "lpips", "LPIPS", "lower", "Perceptual distance", compute=compute, min_side=MIN_SIDE
    )


PAIR_METRICS = (L1, PSNR, SSIM)
NFE = Metric("nfe", "NFE", "lower", "Network evaluations per sample, not counting guidance")
METRICS = (
    *(*SET_METRICS, *COPY_METRICS, RECONSTRUCTION_FD),
    *(*PAIR_METRICS, lpips_metric(None), *PIXEL_METRICS, NFE),
)


def added(kind: type[M]) -> list[M]:
    """The metrics of this type that other packages add to those of images."""
    known = {row.name for row in METRICS}
    rows = vocabulary("images").metrics
    return [row for row in rows if isinstance(row, kind) and row.name not in known]


@dataclass(frozen=True)
class ImageMetrics:
    """Measures sets of images against a reference.

    `has_classes` is True where the logits of the extractor stand for the classes of the labels.
    """

    reference: FeatureSet
    has_classes: bool
    metrics: Sequence[SetMetric] = field(default_factory=lambda: (*SET_METRICS, *added(SetMetric)))
    train: FeatureSet | None = None

    def only(self, *metrics: SetMetric) -> "ImageMetrics":
        """Other metrics against the same reference."""
        return replace(self, metrics=metrics)

    def evaluate(self, found: FeatureSet, labels: Tensor | None) -> dict[str, Measured]:
        """Every metric whose needs are met."""
        sets = Comparison(found, self.reference, labels if self.has_classes else None, self.train)
        return {
            m.name: m.compute(sets)
            for m in self.metrics
            if _has_needs(m, sets) and _has_enough(m, sets)
        }

    def too_few(self, found: FeatureSet) -> list[SetMetric]:
        """The metrics that `evaluate` leaves out for want of images."""
        sets = Comparison(found, self.reference, train=self.train)
        return [m for m in self.metrics if _has_needs(m, sets) and not _has_enough(m, sets)]


def _has_needs(metric: SetMetric, sets: Comparison) -> bool:
    has = {"features"}
    if sets.train is not None:
        has |= {"train"} | (set() if sets.train.pixels is None else {"pixels"})
    if sets.found.logits is not None:
        has |= {"logits"} | (set() if sets.labels is None else {"classes"})
    return metric.needs in has


def _has_enough(metric: SetMetric, sets: Comparison) -> bool:
    found, reference = len(sets.found.features), len(sets.reference.features)
    return found >= metric.min_images and reference >= metric.min_reference


def pair_metrics(side: int, lpips: Distance | None) -> list[PairMetric]:
    """The pair metrics for images whose shorter side is `side`; LPIPS where it has weights."""
    rows = [*PAIR_METRICS, *([] if lpips is None else [lpips_metric(lpips)]), *added(PairMetric)]
    return [row for row in rows if side >= row.min_side]


def settings(samples: int, reference: int) -> dict[str, str]:
    """How the metrics are computed for so many images; a card keeps it."""
    return {
        "pixels": "8 bits",
        "kid": f"{KID_SUBSETS} subsets of {kid_subset_size(samples, reference)}, seed 0",
        "precision_recall": f"{NEIGHBORS} neighbors, at most {MANIFOLD} images of each set",
        "inception_score": f"{IS_SPLITS} splits, at most {KEPT} images",
        "class_accuracy": f"at most {KEPT} images",
        "pixel_metrics": f"at most {MANIFOLD} real images",
        "ssim": "Gaussian windows of 11 pixels, std 1.5",
    }


# ---- metrics.json --------------------------------------------------------------------------

_FLAT = {
    "recon_psnr_db": ("reconstructions", PSNR),
    "recon_l1": ("reconstructions", L1),
    "fd_samples": ("unguided", FD),
    "fd_samples_guided": ("guided", FD),
    "fd_recon": ("reconstructions", RECONSTRUCTION_FD),
    "seams_samples": ("unguided", SEAMS),
    "seams_samples_guided": ("guided", SEAMS),
    "seams_recon": ("reconstructions", SEAMS),
    "seams_real": ("real images", SEAMS),
    "partly_clear_samples": ("unguided", ALPHA),
    "partly_clear_samples_guided": ("guided", ALPHA),
    "partly_clear_recon": ("reconstructions", ALPHA),
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

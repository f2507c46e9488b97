"""Frechet distance between Gaussians fitted to features, in float64.

    FD = |m_a - m_b|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2)

with means m and covariances A, B. The product under the root is symmetric, so its eigenvalues are
real and eigh finds them. Other implementations take the root of A B, which is not symmetric and
has complex roots where covariances are nearly singular.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MIN_SAMPLES = 2  # fewer have no covariance


@dataclass(frozen=True)
class GaussianStatistics:
    """Mean and unbiased covariance of `count` feature vectors of width D, float64 on the CPU."""

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]
    count: int

    def __post_init__(self) -> None:
        width = len(self.mean)
        if self.covariance.shape != (width, width):
            raise ValueError(
                f"expected a covariance ({width}, {width}) for a mean of width {width}, got "
                f"{tuple(self.covariance.shape)}; take both from the same features"
            )


class FeatureAccumulator:
    """Gaussian statistics of features that arrive in batches of any size."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None  # sum of (x - mean)(x - mean)^T

    def update(self, features: Float[Tensor, "b d"]) -> "FeatureAccumulator":
        """Add a batch. Raise ValueError if its width changes or a value is not finite."""
        batch = self._checked(features)
        count = len(batch)
        if count == 0:
            return self
        mean = batch.mean(0)
        centered = batch - mean
        scatter = centered.T @ centered
        if self._mean is None or self._scatter is None:
            self._count, self._mean, self._scatter = count, mean, scatter
            return self
        # Chan's merge of two sets. Summing x x^T instead would cancel where means are large.
        total = self._count + count
        shift = mean - self._mean
        self._scatter += scatter + torch.outer(shift, shift) * (self._count * count / total)
        self._mean = self._mean + shift * (count / total)
        self._count = total
        return self

    def statistics(self) -> GaussianStatistics:
        """Mean and covariance of all features added so far."""
        if self._mean is None or self._scatter is None or self._count < MIN_SAMPLES:
            raise ValueError(
                f"expected features of at least {MIN_SAMPLES} samples, got {self._count}; "
                "a covariance needs more images"
            )
        return GaussianStatistics(
            self._mean.clone(), self._scatter / (self._count - 1), self._count
        )

    def _checked(self, features: Tensor) -> Tensor:
        if features.ndim != 2:
            raise ValueError(
                f"expected features (B, D), got {tuple(features.shape)}; flatten or pool them"
            )
        if self._mean is not None and features.shape[1] != len(self._mean):
            raise ValueError(
                f"expected features of width {len(self._mean)}, got {features.shape[1]}; "
                "use one feature extractor for all batches"
            )
        # Move to the CPU first: some accelerators have no float64.
        batch = features.detach().cpu().double()
        if not bool(torch.isfinite(batch).all()):
            bad = int((~torch.isfinite(batch)).any(1).sum())
            raise ValueError(
                f"expected finite features, got NaN or infinity in {bad} of {len(batch)} samples; "
                "look at the images, the model may have diverged"
            )
        return batch


def statistics(features: Float[Tensor, "n d"]) -> GaussianStatistics:
    """Mean and covariance of one batch that holds all features."""
    return FeatureAccumulator().update(features).statistics()


def frechet_distance(a: GaussianStatistics, b: GaussianStatistics) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, as FID reports it.

    Estimates from few samples are biased upwards: compare numbers of equal sample counts only.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"expected features of one width, got {len(a.mean)} and {len(b.mean)}; "
            "use the same feature extractor on both sides"
        )
    root = _symmetric_root(a.covariance)
    product = root @ b.covariance @ root
    eigenvalues = torch.linalg.eigvalsh(0.5 * (product + product.T))
    cross = eigenvalues.clamp_min(0.0).sqrt().sum()
    traces = a.covariance.trace() + b.covariance.trace()
    distance = (a.mean - b.mean).square().sum() + traces - 2.0 * cross
    # Rounding can make the distance of equal Gaussians slightly negative.
    return max(0.0, float(distance))


def _symmetric_root(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * eigenvalues.clamp_min(0.0).sqrt()) @ vectors.T
    return root

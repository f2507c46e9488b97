"""Metrics of two sets of features, or of one set of logits: KID, precision and recall, IS.

All in float64 on the CPU; what is random is drawn from a seed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBORS = 3
IS_SPLITS = 10
_CHUNK = 1024  # rows of a distance matrix held at a time


@dataclass(frozen=True)
class Spread:
    """A mean over subsets or splits, and their standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares in [0, 1]."""

    precision: float
    recall: float


def kernel_distance(
    samples: Float[Tensor, "n d"],
    reference: Float[Tensor, "m d"],
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = 0,
) -> Spread:
    """KID (Binkowski et al., 2018): unbiased MMD^2 with the kernel (x.y / d + 1)^3.

    The mean over random subsets of `subset_size` of each set, or of half of the smaller set: with
    all of it there would be no spread. It is unbiased, so a value near zero can be negative.
    """
    size = kid_subset_size(len(samples), len(reference), subset_size)
    if size < 2 or samples.shape[1] != reference.shape[1]:
        raise ValueError(
            f"expected two sets of at least 4 features of one width, got {tuple(samples.shape)} "
            f"and {tuple(reference.shape)}; use one extractor and more images"
        )
    x, y = samples.cpu().double(), reference.cpu().double()
    random = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        rows = torch.from_numpy(random.choice(len(x), size, replace=False))
        columns = torch.from_numpy(random.choice(len(y), size, replace=False))
        values.append(unbiased_mmd(x[rows], y[columns]))
    return Spread(float(np.mean(values)), float(np.std(values)))


def kid_subset_size(samples: int, reference: int, most: int = KID_SUBSET_SIZE) -> int:
    """Images in each subset."""
    return min(most, samples // 2, reference // 2)


def unbiased_mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Mean kernel within x and within y, without the diagonals, less twice that between them."""
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2.0 * xy.mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def precision_recall(
    samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], neighbors: int = NEIGHBORS
) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al., 2019).

    A set's manifold is the union of balls around its points that reach the k-th nearest other
    point. Precision is the share of samples on the manifold of the reference, recall the reverse.
    """
    if min(len(samples), len(reference)) <= neighbors:
        raise ValueError(
            f"expected more than {neighbors} features in each set, got {len(samples)} and "
            f"{len(reference)}; use more images"
        )
    x, y = samples.cpu().double(), reference.cpu().double()
    return PrecisionRecall(
        precision=_share_inside(x, y, _radii(y, neighbors)),
        recall=_share_inside(y, x, _radii(x, neighbors)),
    )


def _radii(points: Tensor, neighbors: int) -> Tensor:
    """Distance to the k-th nearest other point; the nearest of all is the point itself."""
    parts = [torch.cdist(part, points).kthvalue(neighbors + 1, dim=1) for part in _chunks(points)]
    return torch.cat([part.values for part in parts])


def _share_inside(points: Tensor, centers: Tensor, radii: Tensor) -> float:
    inside = [(torch.cdist(part, centers) <= radii).any(1) for part in _chunks(points)]
    return float(torch.cat(inside).double().mean())


def _chunks(points: Tensor) -> tuple[Tensor, ...]:
    return points.split(_CHUNK)


def inception_score(logits: Float[Tensor, "n k"], splits: int = IS_SPLITS) -> Spread:
    """exp of the mean KL(p(y | x) || p(y)), over `splits` consecutive parts (Salimans, 2016)."""
    if len(logits) < splits:
        raise ValueError(
            f"expected at least {splits} samples, got {len(logits)}; use more or fewer splits"
        )
    log_p = logits.cpu().double().log_softmax(1)
    scores = []
    for part in torch.tensor_split(log_p, splits):
        marginal = part.logsumexp(0) - math.log(len(part))  # finite where p itself vanishes
        divergence = (part.exp() * (part - marginal)).sum(1)
        scores.append(float(divergence.mean().exp()))
    return Spread(float(np.mean(scores)), float(np.std(scores)))


def class_accuracy(logits: Float[Tensor, "n k"], labels: Tensor) -> float:
    """Share of images whose largest logit is that of their label."""
    return float((logits.argmax(1).cpu() == labels.cpu()).double().mean())

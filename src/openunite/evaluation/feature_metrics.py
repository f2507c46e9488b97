"""Metrics of two sets of features, or of one set of logits: KID, precision and recall, IS.

All are computed in float64 on the CPU; random subsets are drawn from a seed.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openunite.evaluation.measured import Measured
from openunite.evaluation.rates import Rate

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBORS = 3
IS_SPLITS = 10
_CHUNK = 1024  # rows of a distance matrix held at a time


def kernel_distance(
    samples: Float[Tensor, "n d"],
    reference: Float[Tensor, "m d"],
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = 0,
) -> Measured:
    """KID (Binkowski et al., 2018): unbiased MMD^2 with the kernel (x.y / d + 1)^3.

    The mean and std over random subsets of `subset_size` from each set, at most half of the smaller
    set: subsets of the full set would all be equal. The estimate is unbiased, so a value near zero
    can be negative.
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
    return Measured(float(np.mean(values)), float(np.std(values)))


def kid_subset_size(samples: int, reference: int, most: int = KID_SUBSET_SIZE) -> int:
    """Number of images in each subset."""
    return min(most, samples // 2, reference // 2)


def unbiased_mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Mean kernel within x plus that within y (no diagonals) minus twice that between them."""
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2.0 * xy.mean())


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def precision(
    samples: Float[Tensor, "n d"], reference: Float[Tensor, "m d"], neighbors: int = NEIGHBORS
) -> float:
    """Improved precision (Kynkaanniemi et al., 2019); recall with the two sets exchanged.

    The manifold of a set is the union of balls around its points, each reaching the k-th nearest
    other point. Precision is the fraction of samples on the manifold of the reference.
    """
    if min(len(samples), len(reference)) <= neighbors:
        raise ValueError(
            f"expected more than {neighbors} features in each set, got {len(samples)} and "
            f"{len(reference)}; use more images"
        )
    points, centers = samples.cpu().double(), reference.cpu().double()
    radii = _radii(centers, neighbors)
    inside = [(torch.cdist(part, centers) <= radii).any(1) for part in _chunks(points)]
    return float(torch.cat(inside).double().mean())


def _radii(points: Tensor, neighbors: int) -> Tensor:
    """Distances to the k-th nearest other point (the nearest point is the point itself)."""
    parts = [torch.cdist(part, points).kthvalue(neighbors + 1, dim=1) for part in _chunks(points)]
    return torch.cat([part.values for part in parts])


def _chunks(points: Tensor) -> tuple[Tensor, ...]:
    return points.split(_CHUNK)


def inception_score(logits: Float[Tensor, "n k"], splits: int = IS_SPLITS) -> Measured:
    """exp of the mean KL(p(y | x) || p(y)): mean and std over `splits` parts (Salimans, 2016)."""
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
    return Measured(float(np.mean(scores)), float(np.std(scores)))


def class_accuracy(logits: Float[Tensor, "n k"], labels: Tensor) -> Measured:
    """Fraction of images whose largest logit is that of their label."""
    hits = int((logits.argmax(1).cpu() == labels.cpu()).sum())
    return Rate.of(hits, len(labels)).measured

"""Metrics of sets of features, or of one set of logits: KID, precision, recall, copies, IS.

All are computed in float64 on the CPU; random subsets are drawn from a seed.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openunite.evaluation.measured import Measured
from openunite.evaluation.rates import rate

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBORS = 3
IS_SPLITS = 10
COPY_QUANTILE, COPY_HELD_OUT = 0.01, 100  # 1 % of fewer held-out images is less than one
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

    It is the mean over random subsets of `subset_size` from each set, at most half of the smaller
    set, because subsets of full size would all be equal. The estimate is unbiased, so a value near
    zero can be negative. Its error is the standard error of `mmd_error` for the full sets.
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
    return Measured(float(np.mean(values)), mmd_error(x, y))


def kid_subset_size(samples: int, reference: int, most: int = KID_SUBSET_SIZE) -> int:
    """Number of images in each subset."""
    return min(most, samples // 2, reference // 2)


def unbiased_mmd(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Mean kernel within x plus that within y (no diagonals) minus twice that between them."""
    n, m = len(x), len(y)
    xx, yy, xy = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return float(within - 2.0 * xy.mean())


def mmd_error(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Standard error of `unbiased_mmd` by the jackknife: each point of either set is left out once.

    Leaving out a point removes a row of a kernel matrix from the sums, so one pass is enough.
    """
    n, m = len(x), len(y)
    rows_x, rows_y = _row_sums(x, x) - _self_kernel(x), _row_sums(y, y) - _self_kernel(y)
    across_x, across_y = _row_sums(x, y), _row_sums(y, x)
    variance = 0.0
    for count, other, rows, across in ((n, m, rows_x, across_x), (m, n, rows_y, across_y)):
        within = (rows.sum() - 2.0 * rows) / ((count - 1) * (count - 2))
        left_out = within - 2.0 * (across.sum() - across) / ((count - 1) * other)
        variance += float((left_out - left_out.mean()).square().sum()) * (count - 1) / count
    return math.sqrt(variance)


def _row_sums(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([_kernel(part, y).sum(1) for part in x.split(_CHUNK)])


def _self_kernel(x: Tensor) -> Tensor:
    return (x.square().sum(1) / x.shape[1] + 1.0) ** 3


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
    inside = [(torch.cdist(part, centers) <= radii).any(1) for part in points.split(_CHUNK)]
    return float(torch.cat(inside).double().mean())


def _radii(points: Tensor, neighbors: int) -> Tensor:
    """Distances to the k-th nearest other point (the nearest point is the point itself)."""
    parts = [
        torch.cdist(part, points).kthvalue(neighbors + 1, dim=1) for part in points.split(_CHUNK)
    ]
    return torch.cat([part.values for part in parts])


def nearest(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """The distance from each point to the nearest of the others, exactly 0 for a copy."""
    parts, others = [], others.cpu().float()
    for part in points.cpu().float().split(_CHUNK):
        closest = others[torch.cdist(part, others).argmin(1)]  # the values of cdist are rounded
        parts.append((part.double() - closest.double()).norm(dim=1))
    return torch.cat(parts)


def copies(
    samples: Float[Tensor, "n d"], held_out: Float[Tensor, "m d"], train: Float[Tensor, "k d"]
) -> Measured:
    """The fraction of samples that lie nearer to a training point than held-out points do.

    A sample counts if it is nearer to its nearest training point than 99 % of the held-out points
    are to theirs. A model that copies nothing gets about 1 %, as other held-out points do.
    """
    bound = nearest(held_out, train).quantile(COPY_QUANTILE)
    return rate(int((nearest(samples, train) < bound).sum()), len(samples))


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
    return rate(hits, len(labels))

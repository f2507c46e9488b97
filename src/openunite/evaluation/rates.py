"""Fractions and means with their standard errors."""

import numpy as np
from numpy.typing import ArrayLike

from openunite.evaluation.measured import Measured


def rate(hits: int, total: int) -> Measured:
    """The fraction of independent trials with the binomial standard error; 0 of 0 is 0.

    An empty set has no NaN, so that no table of metrics holds one.
    """
    value = hits / total if total else 0.0
    return Measured(value, float(np.sqrt(value * (1.0 - value) / max(1, total))), total)


def clustered_rate(hits: ArrayLike, totals: ArrayLike) -> Measured:
    """The rate of trials in groups (the atoms of molecules): hits (M,) of totals (M,).

    The standard error is that of a ratio of sums over independent groups. The atoms of one molecule
    fail together, so the binomial error of all atoms would be too small.
    """
    hit, total = np.asarray(hits, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    trials, groups = total.sum(), len(total)
    found = rate(int(hit.sum()), int(trials))
    if trials == 0 or groups < 2:
        return found
    residual = hit - hit.sum() / trials * total
    error = np.sqrt(np.square(residual).sum() * groups / (groups - 1)) / trials
    return Measured(found.value, float(error), found.total)


def average(values: ArrayLike) -> Measured:
    """The mean of values (N,), 0 of none, and its standard error, 0 for fewer than two values."""
    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return Measured(float(found.sum()), 0.0)
    return Measured(float(found.mean()), float(found.std(ddof=1)) / float(np.sqrt(len(found))))

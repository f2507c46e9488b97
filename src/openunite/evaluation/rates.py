"""A fraction with the counts behind it and its sampling error."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from openunite.evaluation.measured import Measured


@dataclass(frozen=True)
class Rate:
    """`hits` of `total`, and the standard error of the fraction `value`."""

    hits: int
    total: int
    standard_error: float

    @property
    def value(self) -> float:
        """hits / total; 0 for an empty set, so that no table of metrics holds a NaN."""
        return self.hits / self.total if self.total else 0.0

    @property
    def measured(self) -> Measured:
        """The fraction as a metric."""
        return Measured(self.value, self.standard_error, self.total)

    @classmethod
    def of(cls, hits: int, total: int) -> Self:
        """The rate of independent trials, with the binomial standard error."""
        value = hits / total if total else 0.0
        return cls(hits, total, float(np.sqrt(value * (1.0 - value) / max(1, total))))

    @classmethod
    def clustered(cls, hits: ArrayLike, totals: ArrayLike) -> Self:
        """The rate of trials in groups (the atoms of molecules): hits (M,) of totals (M,).

        The standard error is that of a ratio of sums over independent groups. The atoms of one
        molecule fail together, so the binomial error of all atoms would be too small.
        """
        hit, total = np.asarray(hits, dtype=np.float64), np.asarray(totals, dtype=np.float64)
        trials, groups = total.sum(), len(total)
        if trials == 0 or groups < 2:
            return cls.of(int(hit.sum()), int(trials))
        residual = hit - hit.sum() / trials * total
        error = np.sqrt(np.square(residual).sum() * groups / (groups - 1)) / trials
        return cls(int(hit.sum()), int(trials), float(error))

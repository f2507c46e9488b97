"""A mean with the number of values behind it and its standard error."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from openunite.evaluation.measured import Measured


@dataclass(frozen=True)
class Average:
    """Mean of `count` values; NaN if there are none."""

    value: float
    standard_error: float
    count: int

    @property
    def measured(self) -> Measured:
        """The mean as a metric."""
        return Measured(self.value, self.standard_error)

    @classmethod
    def of(cls, values: ArrayLike) -> Self:
        """The mean of values (N,) and its standard error, which is 0 for fewer than two values."""
        found = np.asarray(values, dtype=np.float64)
        if len(found) == 0:
            return cls(float("nan"), 0.0, 0)
        spread = float(found.std(ddof=1)) if len(found) > 1 else 0.0
        return cls(float(found.mean()), spread / float(np.sqrt(len(found))), len(found))

"""Columns of a data set as conditions of its batches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from openunite.batch import Batch, Conditions, Given


class _Batches(Protocol):
    """Samples by position, handed out as whole batches."""

    @property
    def sizes(self) -> NDArray[np.int64] | None: ...
    def __len__(self) -> int: ...
    def batch(self, indices: list[int]) -> Batch: ...


class ConditionedDataset:
    """The samples of `data`; their batches have conditions, row i being that of position i."""

    def __init__(self, data: Any, conditions: Conditions) -> None:
        self.data: _Batches = data
        self.conditions = conditions

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """Those of the data."""
        return self.data.sizes

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The batch of the data with the conditions of its samples."""
        found = self.data.batch(list(map(int, indices)))
        own = {n: Given(g.values[found.index], g.known[found.index]) for n, g in self._items()}
        return replace(found, conditions={**found.conditions, **own})

    def _items(self) -> Sequence[tuple[str, Given]]:
        return list(self.conditions.items())


def table(rows: Sequence[Sequence[float] | None]) -> Given:
    """Rows of numbers, None where there is no value, as the values of one condition."""
    known = [row is not None for row in rows]
    width = max((len(row) for row in rows if row is not None), default=0)
    values: Float[Tensor, "b f"] = torch.tensor([row or [0.0] * width for row in rows])
    there: Bool[Tensor, " b"] = torch.tensor(known, dtype=torch.bool)
    return Given(values.reshape(len(rows), width), there)

"""Learning rates and the order of samples, by optimizer step.

Both are pure functions of the step, so no state has to be saved or restored.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from openunite.flow.random import permutation


def learning_rate_factor(
    step: float, steps: int, warmup: int, final_share: float, constant_share: float = 0.0
) -> float:
    """Factor of the learning rate: linear warm-up to 1, constant, then cosine to `final_share`.

    The warm-up takes `warmup` steps. The cosine begins after the fraction `constant_share` of the
    steps, or after the warm-up if that ends later.
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = max(warmup, round(constant_share * steps))
    progress = max(0, step - fall) / max(1, steps - fall)
    return rise * (final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """The samples of each batch: a stream of shuffled epochs, split into global batches.

    The global batch of a step has `batch_size` slots; slot j holds stream position
    step * batch_size + j. Accumulation and processes only decide who computes which slots.
    With `sizes` (num_samples,), a batch holds samples of similar size, so little padding is needed.
    """

    num_samples: int
    batch_size: int
    seed: int
    accumulation: int = 1
    world_size: int = 1
    sizes: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        parts = self.accumulation * self.world_size
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} must be divisible by accumulation x processes = "
                f"{self.accumulation} x {self.world_size}"
            )

    @property
    def micro_size(self) -> int:
        """Number of samples in a micro-batch of one process."""
        return self.batch_size // (self.accumulation * self.world_size)

    def slots(self, micro: int, rank: int) -> Int[Tensor, " m"]:
        """The slots of micro-batch number `micro` of process `rank`."""
        start = (micro * self.world_size + rank) * self.micro_size
        return torch.arange(start, start + self.micro_size)

    def indices(self, step: int, slots: Int[Tensor, " m"]) -> list[int]:
        """Dataset indices in the given slots of a step."""
        positions = (step * self.batch_size + slots).tolist()
        return [self._epoch(p // self.num_samples)[p % self.num_samples] for p in positions]

    def batches(self, first_step: int, last_step: int, rank: int) -> Iterator[list[int]]:
        """Yield the dataset indices of every micro-batch of one process, in order."""
        for step in range(first_step, last_step):
            for micro in range(self.accumulation):
                yield self.indices(step, self.slots(micro, rank))

    @lru_cache(maxsize=2)  # noqa: B019  a run keeps its only order until it ends
    def _epoch(self, epoch: int) -> list[int]:
        order = permutation(self.num_samples, self.seed, epoch).numpy()
        if self.sizes is not None:
            first = -epoch * self.num_samples % self.batch_size  # where the first batch begins
            batches = permutation(self.num_samples // self.batch_size, self.seed, epoch).numpy()
            order = group_by_size(order, self.sizes, self.batch_size, first, batches)
        return order.tolist()


def group_by_size(
    order: NDArray[np.int64],
    sizes: NDArray[np.int64],
    batch_size: int,
    first: int,
    shuffle: NDArray[np.int64],
    pool: int = 32,
) -> NDArray[np.int64]:
    """Sort every `pool` batches of an order by size, then shuffle the batches.

    Batches begin at position `first`; samples before it, and after the last complete batch, stay in
    place. `shuffle` is a permutation of at least as many numbers as there are batches.
    """
    count = max(0, len(order) - first) // batch_size
    body = order[first : first + count * batch_size]
    pools = np.arange(len(body)) // (pool * batch_size)
    grouped = body[np.lexsort([sizes[body], pools])].reshape(count, batch_size)
    shuffled = grouped[shuffle[shuffle < count]].reshape(-1)
    return np.concatenate([order[:first], shuffled, order[first + len(body) :]])

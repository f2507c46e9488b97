"""What happens at which optimizer step: learning rates and the order of samples.

Both are pure functions of the step, so nothing about them has to be saved or restored.
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
    step: int, steps: int, warmup: int, final_share: float, constant_share: float = 0.0
) -> float:
    """Linear warm-up over `warmup` optimizer steps, 1, then cosine down to `final_share`.

    The fall begins after `constant_share` of the steps, or after the warm-up if that ends later.
    """
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = max(warmup, round(constant_share * steps))
    progress = max(0, step - fall) / max(1, steps - fall)
    return rise * (final_share + (1.0 - final_share) * 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """Which samples make up which batch: a stream of shuffled epochs cut into global batches.

    The global batch of a step has `batch_size` slots; slot j holds stream position
    step * batch_size + j. Accumulation and processes only decide who computes which slots.
    With `sizes` (num_samples,), a batch holds samples of about one size, so that little is padded.
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
        """Samples one process handles at a time."""
        return self.batch_size // (self.accumulation * self.world_size)

    def slots(self, micro: int, rank: int) -> Int[Tensor, " m"]:
        """Slots of one micro-batch of one process."""
        start = (micro * self.world_size + rank) * self.micro_size
        return torch.arange(start, start + self.micro_size)

    def indices(self, step: int, slots: Int[Tensor, " m"]) -> list[int]:
        """Dataset indices in the given slots of a step."""
        positions = (step * self.batch_size + slots).tolist()
        return [self._epoch(p // self.num_samples)[p % self.num_samples] for p in positions]

    def batches(self, first_step: int, last_step: int, rank: int) -> Iterator[list[int]]:
        """Dataset indices of every micro-batch of one process, in order."""
        for step in range(first_step, last_step):
            for micro in range(self.accumulation):
                yield self.indices(step, self.slots(micro, rank))

    @lru_cache(maxsize=2)  # noqa: B019  a run has one order, and needs it to its end
    def _epoch(self, epoch: int) -> list[int]:
        order = permutation(self.num_samples, self.seed, epoch).numpy()
        if self.sizes is not None:
            first = -epoch * self.num_samples % self.batch_size  # where a batch begins
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

    Batches begin at position `first`; what lies before it and behind the last whole batch stays.
    `shuffle` is a permutation of at least as many numbers as there are batches.
    """
    count = max(0, len(order) - first) // batch_size
    body = order[first : first + count * batch_size]
    pools = np.arange(len(body)) // (pool * batch_size)
    grouped = body[np.lexsort([sizes[body], pools])].reshape(count, batch_size)
    shuffled = grouped[shuffle[shuffle < count]].reshape(-1)
    return np.concatenate([order[:first], shuffled, order[first + len(body) :]])

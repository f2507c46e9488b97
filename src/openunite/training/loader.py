"""From a sample order to batches in memory."""

import signal
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from openunite.batch import Batch
from openunite.training.config import RunConfig
from openunite.training.schedule import SampleOrder
from openunite.training.signals import stop_signals


class TrainingData(Protocol):
    """Samples by position, handed out as whole batches."""

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """How much of a padded batch each sample fills (N,); None where all are alike."""

    def __len__(self) -> int: ...

    def batch(self, indices: list[int]) -> Batch: ...


def sample_order(config: RunConfig, data: TrainingData, world_size: int) -> SampleOrder:
    """The batches of this run; ValueError if micro-batches do not add up to the global batch."""
    micro = config.micro_batch_size or config.batch_size // world_size
    accumulation = config.batch_size // max(1, micro * world_size)
    if accumulation * micro * world_size != config.batch_size or accumulation < 1:
        raise ValueError(
            f"batch_size {config.batch_size} must be a multiple of micro_batch_size {micro} x "
            f"{world_size} processes"
        )
    return SampleOrder(
        len(data), config.batch_size, config.seed, accumulation, world_size, data.sizes
    )


def make_loader(
    data: TrainingData, batches: Iterable[list[int]], workers: int, pinned: bool
) -> Iterable[Batch]:
    """The given batches in the given order, fetched by `workers` processes (0: this one)."""
    return DataLoader(
        _Fetch(data),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_unchanged,  # type: ignore[arg-type]
        pin_memory=pinned,
        worker_init_fn=_leave_signals,
    )


class _Fetch(Dataset[Batch]):
    """PyTorch's batched fetch over `TrainingData`."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.data.batch(indices)


def _leave_signals(worker: int) -> None:
    """Signals often go to all processes at once, and PyTorch ends a run that loses one.

    A worker ends with the process it works for.
    """
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def _unchanged(batch: Batch) -> Batch:
    """The data have collated already."""
    return batch

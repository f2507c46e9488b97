"""Load the batches of a sample order into memory."""

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
    """A data set that is read in batches of samples, by their indices."""

    @property
    def sizes(self) -> NDArray[np.int64] | None:
        """Size of each sample (N,), such as its number of atoms; None if all are equal."""

    def __len__(self) -> int: ...

    def batch(self, indices: list[int]) -> Batch: ...


def sample_order(config: RunConfig, data: TrainingData, world_size: int) -> SampleOrder:
    """The sample order of a run. Raises ValueError if micro-batches do not divide the batch."""
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
    """Yield the given batches in order, loaded by `workers` processes (0: by this process)."""
    return DataLoader(
        _Fetch(data),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_unchanged,  # type: ignore[arg-type]
        pin_memory=pinned,
        worker_init_fn=_leave_signals,
    )


class _Fetch(Dataset[Batch]):
    """Adapter from `TrainingData` to the batched fetch of PyTorch's loader."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.data.batch(indices)


def _leave_signals(worker: int) -> None:
    """Ignore stop signals in a worker: it ends when its parent does.

    Signals often go to all processes at once, and PyTorch aborts a run that loses a worker.
    """
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def _unchanged(batch: Batch) -> Batch:
    """Batches arrive collated."""
    return batch

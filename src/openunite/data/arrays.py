"""Data points that are arrays of one shape, from files that some reader knows or from memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openunite.batch import Batch
from openunite.data.holdout import Holdout, Skipped, choose_held_out, refuse_many
from openunite.data.readers import files_of, read_files

Floats = NDArray[np.float32]


class ArrayDataset:
    """Arrays by position: `items` float32 (N, ...)."""

    sizes = None  # all alike

    def __init__(self, items: Floats) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The items at `indices`, float32 (B, ...)."""
        at = np.asarray(indices, dtype=np.int64).reshape(-1)
        return Batch(torch.from_numpy(self.items[at]), torch.from_numpy(at))


@dataclass(frozen=True)
class ArrayData:
    """An opened source; `fingerprint` is a sha256 over content, order and split."""

    name: str
    train: ArrayDataset
    test: ArrayDataset
    skipped: tuple[Skipped, ...]
    fingerprint: str


def open_arrays(
    source: str | Path | Iterable[Any], things: str, holdout: Holdout, max_bad_share: float
) -> ArrayData:
    """Read a file, a folder or a list; hold some out by content.

    Items whose shape is not that of the first, or that are not finite, are skipped. ValueError if
    too many are, or if less than two remain.
    """
    skipped: list[Skipped] = []

    def tell(name: str, reason: str) -> None:
        skipped.append(Skipped(name, reason))

    if isinstance(source, str | Path):
        name, found = str(source), read_files(files_of([str(source)], things), things, tell)
    else:
        name = f"{things} in memory"
        found = ((f"item {i}", item) for i, item in enumerate(source))
    items: list[Floats] = []
    for label, item in found:
        array = np.asarray(item, dtype=np.float32)
        if items and array.shape != items[0].shape:
            tell(label, f"has shape {array.shape}, the first one {items[0].shape}")
        elif not np.isfinite(array).all():
            tell(label, "holds numbers that are not finite")
        else:
            items.append(array)
    refuse_many(name, skipped, len(items) + len(skipped), max_bad_share, things)
    if len(items) < 2:
        raise ValueError(f"{name} has {len(items)} usable {things}, expected at least 2; add some")
    digests = [sha256(item.tobytes()).hexdigest() for item in items]
    held_out = choose_held_out(digests, holdout)
    if held_out.all() or not held_out.any():
        raise ValueError(f"{name} holds copies of one of the {things}; add others")
    total = sha256("".join(digests).encode())
    total.update(held_out.tobytes())
    stacked = np.stack(items)
    parts = (ArrayDataset(stacked[~held_out]), ArrayDataset(stacked[held_out]))
    return ArrayData(name, *parts, tuple(skipped), total.hexdigest())

"""Data points that are arrays of one shape, from files that some reader knows or from memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openunite.batch import CLASS, Batch, Given
from openunite.data.holdout import Holdout, Skipped, check_sides, choose_held_out, refuse_many
from openunite.data.readers import Labeled, files_of, read_files

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Tell = Callable[[str, str], None]


class ArrayDataset:
    """Arrays by position: `items` float32 (N, ...), `labels` int64 (N,) if there are classes."""

    sizes = None  # all items have the same shape

    def __init__(self, items: Floats, labels: Ints | None = None) -> None:
        self.items, self.labels = items, labels

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The items at `indices`, float32 (B, ...), and their classes if they have some."""
        at = np.asarray(indices, dtype=np.int64).reshape(-1)
        known = {}
        if self.labels is not None:
            known[CLASS] = Given.of_all(torch.from_numpy(self.labels[at]))
        return Batch(torch.from_numpy(self.items[at]), torch.from_numpy(at), conditions=known)


@dataclass(frozen=True)
class ArrayData:
    """An opened source; `fingerprint` is a sha256 over content, order, classes and split."""

    name: str
    train: ArrayDataset
    test: ArrayDataset
    skipped: tuple[Skipped, ...]
    fingerprint: str
    class_names: tuple[str, ...] = ()


def open_arrays(
    source: str | Path | Iterable[Any], kind: str, holdout: Holdout, max_bad_share: float
) -> ArrayData:
    """Read a file, a folder or a list, and hold out some items by a hash of their content.

    Items that are not finite, or whose shape differs from that of the first, are skipped. Classes
    are those of `Labeled` items, sorted by name. ValueError if too many items are skipped, if fewer
    than two remain, or if only some have a class.
    """
    skipped: list[Skipped] = []

    def tell(name: str, reason: str) -> None:
        skipped.append(Skipped(name, reason))

    if isinstance(source, str | Path):
        name, found = str(source), read_files(files_of([str(source)], kind), kind, tell)
    else:
        name = f"{kind} in memory"
        found = ((f"item {i}", item) for i, item in enumerate(source))
    pairs = list(_usable(found, tell))
    items, given = [array for array, _ in pairs], [label for _, label in pairs]
    refuse_many(name, skipped, len(items) + len(skipped), max_bad_share, kind)
    if len(items) < 2:
        raise ValueError(f"{name} has {len(items)} usable {kind}, expected at least 2; add some")
    names, labels = _classes(given, name, kind)
    digests = [sha256(item.tobytes()).hexdigest() for item in items]
    held_out = choose_held_out(digests, holdout)
    check_sides(name, kind, int((~held_out).sum()), int(held_out.sum()))
    total = sha256("".join(digests).encode())
    total.update(held_out.tobytes())
    total.update(repr(given if names else "").encode())
    stacked = np.stack(items)
    train, test = (
        ArrayDataset(stacked[rows], None if labels is None else labels[rows])
        for rows in (~held_out, held_out)
    )
    return ArrayData(name, train, test, tuple(skipped), total.hexdigest(), names)


def _usable(found: Iterable[tuple[str, Any]], tell: Tell) -> Iterator[tuple[Floats, str | None]]:
    """Arrays of the same shape as the first, and their classes; `tell` is called for the others."""
    shape: tuple[int, ...] | None = None
    for name, item in found:
        label = item.label if isinstance(item, Labeled) else None
        array = np.asarray(unlabeled(item), dtype=np.float32)
        if shape is not None and array.shape != shape:
            tell(name, f"has shape {array.shape}, the first one {shape}")
        elif not np.isfinite(array).all():
            tell(name, "holds numbers that are not finite")
        else:
            shape = array.shape
            yield array, label


def unlabeled(item: Any) -> Any:
    """The data point itself, without its class."""
    return item.value if isinstance(item, Labeled) else item


def _classes(
    given: Sequence[str | None], name: str, kind: str
) -> tuple[tuple[str, ...], Ints | None]:
    """Names of the classes and labels (N,) of the items; () and None if no item has a class."""
    named = [label for label in given if label is not None]
    if not named:
        return (), None
    if len(named) < len(given):
        raise ValueError(
            f"{len(named)} of {len(given)} {kind} in {name} have a class, expected all or none; "
            "have the reader label each of them"
        )
    names, labels = np.unique(named, return_inverse=True)
    return tuple(names.tolist()), labels.astype(np.int64)

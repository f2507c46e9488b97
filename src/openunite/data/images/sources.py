"""What every reader of images returns: a `Source`, before any decoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

TEST_NAMES = ("test", "val", "valid", "validation")


class Items(Protocol):
    """Encoded images or pixels by position; picklable, and safe to read from several threads."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What a person calls item i; no two items have the same name."""

    def stamp(self, i: int) -> str:
        """Changes when item i changes; "" if that cannot be known without reading it."""

    def read(self, i: int) -> bytes | Pixels:
        """The file's bytes, or uint8 pixels (H, W) or (H, W, C). Raises OSError."""


@dataclass(frozen=True)
class Source:
    """Items with labels int64 (N,); `class_names` is empty for unconditional data.

    `held_out` bool (N,) marks the source's own test split, None if it has none. `location` tells
    sources apart between runs; "" where remembering what was read would save nothing. `digests`
    uint8 (N, 32), the sha256 of the originals, says that the source was checked when it was made:
    all its items can be used. `copies` says how they were made of the originals, one
    `describe_copy` after the other.
    """

    name: str
    items: Items
    labels: Ints
    class_names: tuple[str, ...] = ()
    held_out: NDArray[np.bool_] | None = None
    location: str = ""
    digests: Pixels | None = None
    copies: tuple[str, ...] = ()


def describe_copy(height: int, width: int, channels: int, jpeg_quality: int | None = None) -> str:
    """What copies of this size hold. PNG copies are what opening the originals at it gives."""
    kind = "PNG" if jpeg_quality is None else f"JPEG {jpeg_quality}"
    return f"{height} x {width} x {channels}, {kind}"


@dataclass(frozen=True)
class JoinedItems:
    """The items of a train split followed by those of a test split."""

    first: Items
    second: Items

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def name(self, i: int) -> str:
        items, j = self._find(i)
        return items.name(j)

    def stamp(self, i: int) -> str:
        items, j = self._find(i)
        return items.stamp(j)

    def read(self, i: int) -> bytes | Pixels:
        items, j = self._find(i)
        return items.read(j)

    def _find(self, i: int) -> tuple[Items, int]:
        size = len(self.first)
        return (self.first, i) if i < size else (self.second, i - size)


def join(train: Items, test: Items) -> tuple[JoinedItems, NDArray[np.bool_]]:
    """Both splits in one, and which of them are held out."""
    return JoinedItems(train, test), np.arange(len(train) + len(test)) >= len(train)


def check_labels(
    values: ArrayLike, count: int, class_names: Sequence[str], where: str
) -> tuple[Ints, tuple[str, ...]]:
    """Labels int64 (count,) and one name per class, "0", "1", ... where `class_names` is empty.

    ValueError if the labels are not `count` whole numbers between 0 and the last class.
    """
    labels = np.asarray(values)
    if labels.shape != (count,):
        raise ValueError(
            f"{where} has {count} images but labels of shape {labels.shape}; give one per image"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels in {where} must be integers from 0, got {labels.dtype}")
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    last = len(class_names) - 1 if class_names else high
    if low < 0 or high > last:
        raise ValueError(
            f"labels in {where} must lie between 0 and {max(last, 0)}, got {low} to {high}; "
            "correct the labels or the class names"
        )
    names = tuple(map(str, class_names)) or tuple(str(i) for i in range(high + 1))
    return labels.astype(np.int64), names

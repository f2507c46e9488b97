"""Classes of images: names, their order, and labels from numbers or text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from openunite.data.images.sources import Ints


def in_order(names: Iterable[str]) -> list[str]:
    """Class names in the order of their labels: by value if all are numbers, else as text."""
    names = sorted(set(names))
    if all(name.isascii() and name.isdecimal() for name in names):
        names.sort(key=int)
    return names


@dataclass(frozen=True)
class Classes:
    """Labels int64 (N,), one name per class, and notes on how the labels were read."""

    labels: Ints
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def none(cls, count: int) -> "Classes":
        """The zero labels (N,) of unconditional data."""
        return cls(np.zeros(count, dtype=np.int64))


def one_per_image(values: ArrayLike, count: int, where: str) -> NDArray[Any]:
    """Labels as (N,), from (N,) or a column (N, 1). ValueError for another shape."""
    labels = np.asarray(values)
    if labels.shape == (count, 1):
        return labels[:, 0]
    if labels.shape != (count,):
        advice = "; numbers from one-hot rows: labels.argmax(1)" if labels.ndim == 2 else ""
        raise ValueError(
            f"{where} has {count} images but labels of shape {labels.shape}; give one per image"
            f"{advice}"
        )
    return labels


def check_labels(values: ArrayLike, count: int, class_names: Sequence[str], where: str) -> Classes:
    """Labels of `count` images and the names of their classes.

    Without `class_names`, the classes are the labels that occur: numbers from 0 keep their value,
    others are ranked, and text is ranked by `in_order`. ValueError if the labels are not `count`
    integers, if one is below 0, or if one has no class name.
    """
    labels = one_per_image(values, count, where)
    if labels.dtype.kind in "US":
        labels = labels.astype(str)
        names = [str(name) for name in class_names] or in_order(labels.tolist())
        if unknown := sorted(set(labels.tolist()) - set(names)):
            raise ValueError(f"label {unknown[0]!r} in {where} is no class name; add it to them")
        rank = {name: i for i, name in enumerate(names)}
        return Classes(np.array([rank[label] for label in labels.tolist()], int), tuple(names))
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels in {where} must be integers from 0, got {labels.dtype}; "
            "save labels.astype('int64')"
        )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    last = len(class_names) - 1 if class_names else high
    if low < 0 or high > last:
        raise ValueError(
            f"labels in {where} must lie between 0 and {max(last, 0)}, got {low} to {high}; "
            "correct the labels or the class names"
        )
    if class_names:
        return Classes(labels.astype(np.int64), tuple(map(str, class_names)))
    present, ranks = np.unique(labels, return_inverse=True)
    notes: tuple[str, ...] = ()
    if len(present) and int(present[-1]) != len(present) - 1:
        notes = (
            f"labels {present[0]} to {present[-1]} became classes 0 to {len(present) - 1}, "
            "named by the old numbers",
        )
    return Classes(ranks.astype(np.int64), tuple(map(str, present.tolist())), notes)

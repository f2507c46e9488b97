"""Structures by position as padded batches, and the split into training and held-out ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openunite.batch import Batch
from openunite.data.atoms.arrays import TEST, TRAIN, VAL, Reading, StructureArrays
from openunite.data.atoms.checks import find_faults
from openunite.data.atoms.elements import sorted_elements
from openunite.data.atoms.structure import Ints, Structure
from openunite.data.holdout import (
    Holdout,
    Skipped,
    check_sides,
    choose_held_out,
    fingerprint,
    positions,
    refuse_many,
)

Features = NDArray[np.float32]
_GRID = 31415.9265  # steps per Angstrom; printed decimals are not halfway between two


class AtomDataset:
    """Structures by position, 0 to len - 1; picklable.

    `features` (A, F) has a row per atom of `structures`, `common` (S, G) a row per structure that
    is repeated behind the features of each of its atoms. The dataset serves the given `rows`.
    """

    def __init__(
        self,
        structures: StructureArrays,
        features: Features,
        rows: Ints,
        common: Features | None = None,
    ) -> None:
        self._structures, self._features = structures, features
        self._rows, self._common = rows, common
        self._sizes = structures.sizes

    def __len__(self) -> int:
        return len(self._rows)

    def select(self, rows: Ints) -> "AtomDataset":
        """A dataset of other rows of the same structures."""
        return AtomDataset(self._structures, self._features, rows, self._common)

    def with_elements(self, elements: Sequence[int]) -> "AtomDataset":
        """The same structures with element indices that refer to other `elements`."""
        columns = [element_indices(self._structures, elements), self._features[:, 1:]]
        features = np.concatenate(columns, axis=1)
        return AtomDataset(self._structures, features, self._rows, self._common)

    @property
    def sizes(self) -> Ints:
        """Number of atoms of each structure (len,)."""
        sizes: Ints = self._sizes[self._rows]
        return sizes

    def compositions(self) -> tuple[Ints, Ints]:
        """The atomic numbers (E,) that occur, and how many atoms (len, E) each structure has."""
        numbers, kinds = np.unique(self._structures.numbers, return_inverse=True)
        at = np.repeat(np.arange(len(self._sizes)), self._sizes) * len(numbers) + kinds
        counts = np.bincount(at, minlength=len(self._sizes) * len(numbers))
        return numbers.astype(np.int64), counts.reshape(-1, len(numbers))[self._rows]

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """Structures in the order of `indices`, padded with zeros to the largest of them.

        `data` float32 (B, N, F + G), `mask` bool (B, N). IndexError outside the set.
        """
        at = positions(indices, len(self))
        rows = self._rows[at]
        sizes = self._sizes[rows]
        steps = np.arange(sizes.max(initial=0))
        mask = steps < sizes[:, None]
        # Padding points at the structure's own first atom, so that no row is out of range.
        atoms = self._structures.offsets[rows, None] + np.where(mask, steps, 0)
        data = self._features[atoms]
        if self._common is not None:
            common = np.broadcast_to(self._common[rows, None], (*mask.shape, self._common.shape[1]))
            data = np.concatenate([data, common], axis=2)
        data *= mask[..., None]
        return Batch(torch.from_numpy(data), torch.from_numpy(at), torch.from_numpy(mask))

    def structures(self, indices: Sequence[int] | Tensor) -> list[Structure]:
        """The structures at `indices` as they were read; crystals in their reduced cells."""
        return [self._structures[int(row)] for row in self._rows[positions(indices, len(self))]]


@dataclass(frozen=True)
class AtomData:
    """An opened source of molecules or crystals.

    `elements` are atomic numbers in ascending order; the element index in a batch refers to them.
    `size_histogram[n]` is the number of training structures with n atoms, n from 0 to
    `max_atoms`. `fingerprint` is a sha256 over content, labels, order and split of the usable
    structures (not over names); a resumed run compares it to notice that the data changed.
    """

    name: str
    train: AtomDataset
    val: AtomDataset | None
    test: AtomDataset
    elements: tuple[int, ...]
    max_atoms: int
    size_histogram: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    fingerprint: str


def content_digests(structures: StructureArrays) -> list[str]:
    """A sha256 per structure of its numbers, positions and cell.

    Positions of molecules are hashed exactly. Those of crystals, and the cells, are first rounded
    to a grid: they come from angles and products whose last bits differ between machines.
    """
    positions: NDArray[Any] = structures.positions
    cells: NDArray[Any] | None = structures.cells
    if cells is not None:
        with np.errstate(invalid="ignore"):  # non-finite structures are never used
            positions = np.rint(positions * _GRID).astype(np.int64)
            cells = np.rint(cells * _GRID).astype(np.int64)
    digests = []
    for i, (start, stop) in enumerate(pairwise(structures.offsets.tolist())):
        digest = sha256(structures.numbers[start:stop].tobytes())
        digest.update(positions[start:stop].tobytes())
        if cells is not None:
            digest.update(cells[i].tobytes())
        digests.append(digest.hexdigest())
    return digests


def split_by_content(digests: Sequence[str], holdout: Holdout) -> Ints:
    """Split (S,) of `TRAIN` and `TEST`; the structures with the smallest digests are held out."""
    return np.where(choose_held_out(digests, holdout), TEST, TRAIN).astype(np.int64)


def open_structures(
    reading: Reading,
    dataset_of: Callable[[StructureArrays, Ints, Sequence[int]], AtomDataset],
    digests: Sequence[str],
    *,
    elements: Sequence[str | int] | None,
    min_atoms: int,
    max_atoms: int | None,
    by_content: bool,
    holdout: Holdout,
    max_bad_share: float,
) -> AtomData:
    """Leave out structures with faults, divide the others, and serve them by `dataset_of`.

    The split is the source's own; by `digests` (one per structure) if it has none or if
    `by_content` is set. ValueError if too many structures are unusable, or if there is nothing to
    train on or nothing to test on.
    """
    found = reading.structures
    allowed = None if elements is None else sorted_elements(elements)
    faults = find_faults(found, elements=allowed, min_atoms=min_atoms, max_atoms=max_atoms)
    skipped = _skipped(reading, faults, max_bad_share)
    rows = np.flatnonzero([not text for text in faults])
    if allowed is None:
        allowed = _found_elements(found, rows)
    usable = [digests[row] for row in rows.tolist()]
    if reading.split is None or by_content:
        split = split_by_content(usable, holdout)
    else:
        split = reading.split[rows]
    whole = dataset_of(found, rows, allowed)
    train, val, test = (whole.select(rows[split == part]) for part in (TRAIN, VAL, TEST))
    check_sides(reading.name, "structures", len(train), len(test))
    largest = max_atoms or int(max(part.sizes.max(initial=0) for part in (train, val, test)))
    return AtomData(
        reading.name,
        train,
        val if len(val) else None,
        test,
        allowed,
        largest,
        tuple(np.bincount(train.sizes, minlength=largest + 1).tolist()),
        skipped,
        fingerprint(allowed, usable, split.astype("<i8").tobytes()),
    )


def _skipped(reading: Reading, faults: Sequence[str], max_bad_share: float) -> tuple[Skipped, ...]:
    """The records that cannot be used. ValueError if they are too many."""
    names = reading.structures.names
    bad = [*reading.skipped, *(Skipped(names[i], text) for i, text in enumerate(faults) if text)]
    too_large = any("more than max_atoms" in item.reason for item in bad)
    larger = "admit larger ones by max_atoms (`train --max-atoms`)" if too_large else ""
    total = len(faults) + len(reading.skipped)
    refuse_many(reading.name, bad, total, max_bad_share, "structures", larger)
    return tuple(bad)


def _found_elements(structures: StructureArrays, rows: Ints) -> tuple[int, ...]:
    """The atomic numbers that occur in the given structures, ascending."""
    wanted = np.zeros(len(structures), dtype=bool)
    wanted[rows] = True
    return tuple(np.unique(structures.numbers[np.repeat(wanted, structures.sizes)]).tolist())


def element_indices(structures: StructureArrays, elements: Sequence[int]) -> Features:
    """Index of each atom's element in `elements`, float32 (A, 1); 0 for other elements."""
    index = np.zeros(256, dtype=np.float32)
    index[list(elements)] = np.arange(len(elements))
    return index[structures.numbers][:, None]

"""Molecules and crystals together: two opened sources as one, with the source as the class."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openunite.batch import CLASS, Batch, Given
from openunite.data.atoms.arrays import pack
from openunite.data.atoms.dataset import AtomData, AtomDataset
from openunite.data.atoms.lattice import reduce_cells
from openunite.data.atoms.structure import Ints, Structure
from openunite.data.crystals.dataset import crystal_dataset, open_crystals
from openunite.data.holdout import Skipped
from openunite.data.molecules.dataset import molecule_dataset, open_molecules

_WIDTH = 10


class JointDataset:
    """Structures of several datasets by position; their class is the index of the dataset.

    Each row of `order` (S, 2) is the dataset of a structure and its position there; by default
    one dataset follows the other.
    """

    def __init__(self, parts: Sequence[AtomDataset], order: Ints | None = None) -> None:
        self.parts = tuple(parts)
        pairs = [np.stack([np.full(len(p), i), np.arange(len(p))], 1) for i, p in enumerate(parts)]
        self.order: Ints = np.concatenate(pairs) if order is None else order
        self.sizes: Ints = np.zeros(len(self), dtype=np.int64)  # number of atoms of each structure
        for label, part in enumerate(self.parts):
            ours = self.order[:, 0] == label
            self.sizes[ours] = part.sizes[self.order[ours, 1]]

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """Like `AtomDataset.batch`; `data` is (B, N, 10), the class the index of the dataset."""
        at = np.asarray(indices, dtype=np.int64).reshape(-1)
        chosen = self.order[at]
        most = int(self.sizes[at].max(initial=0))
        data = torch.zeros(len(at), most, _WIDTH)
        mask = torch.zeros(len(at), most, dtype=torch.bool)
        for label, part in enumerate(self.parts):
            rows = torch.from_numpy(np.flatnonzero(chosen[:, 0] == label))
            found = part.batch(chosen[rows.numpy(), 1].tolist())
            _, size, width = found.data.shape
            data[rows, :size, :width] = found.data
            mask[rows, :size] = found.valid
        labels, index = torch.from_numpy(chosen[:, 0].copy()), torch.from_numpy(at)
        return Batch(data, index, mask, {CLASS: Given.of_all(labels)})

    def structures(self, indices: Sequence[int]) -> list[Structure]:
        """The structures at `indices` as they were read; crystals in their reduced cells."""
        return [self.parts[i].structures([j])[0] for i, j in self.order[list(indices)].tolist()]


@dataclass(frozen=True)
class JointData:
    """Two opened sources; `size_histogram` has one row for molecules and one for crystals.

    In `train` the smaller set is repeated until it is a fraction `least_share` of all.
    """

    molecules: AtomData
    crystals: AtomData
    elements: tuple[int, ...]
    max_atoms: int
    least_share: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.molecules.name} + {self.crystals.name}"

    @cached_property
    def train(self) -> JointDataset:
        joined = self._joined(self.molecules.train, self.crystals.train)
        return JointDataset(joined.parts, repeated(joined.order, self.least_share))

    @cached_property
    def test(self) -> JointDataset:
        return self._joined(self.molecules.test, self.crystals.test)

    @property
    def size_histogram(self) -> tuple[tuple[int, ...], ...]:
        rows = self.molecules.size_histogram, self.crystals.size_histogram
        return tuple((*row, *[0] * (self.max_atoms + 1 - len(row))) for row in rows)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return self.molecules.skipped + self.crystals.skipped

    @property
    def fingerprint(self) -> str:
        both = self.molecules.fingerprint + self.crystals.fingerprint
        return sha256(both.encode()).hexdigest()

    def _joined(self, molecules: AtomDataset, crystals: AtomDataset) -> JointDataset:
        return JointDataset([part.with_elements(self.elements) for part in (molecules, crystals)])


def open_joint(
    source: str,
    *,
    max_atoms: int | None = None,
    max_e_above_hull: float | None = None,
    least_share: float = 0.0,
    holdout_share: float = 0.05,
    holdout_max: int = 1000,
    max_bad_share: float = 0.001,
    progress: bool = True,
) -> JointData:
    """Open "MOLECULES,CRYSTALS", a source of `open_molecules` and one of `open_crystals`.

    The elements are those of both. `max_atoms` limits both kinds; None means 20 for crystals and
    no limit for molecules. `max_e_above_hull` (eV per atom) limits crystals. ValueError if `source`
    does not name two sources or `least_share` is outside [0, 0.5]; other errors as in those two.
    """
    if not 0.0 <= least_share <= 0.5:
        raise ValueError(f"least_share must lie between 0 and 0.5, got {least_share}")
    names = [name.strip() for name in source.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(
            f"joint training takes two sources, MOLECULES,CRYSTALS, got {source!r}; for instance "
            "--data qm9,mp_20.csv"
        )
    options: dict[str, Any] = {
        "holdout_share": holdout_share,
        "holdout_max": holdout_max,
        "max_bad_share": max_bad_share,
        "progress": progress,
    }
    molecules = open_molecules(names[0], max_atoms=max_atoms, **options)
    crystals = open_crystals(
        names[1], max_atoms=max_atoms or 20, max_e_above_hull=max_e_above_hull, **options
    )
    elements = tuple(sorted({*molecules.elements, *crystals.elements}))
    largest = max(molecules.max_atoms, crystals.max_atoms)
    return JointData(molecules, crystals, elements, largest, least_share)


def repeated(order: Ints, least_share: float) -> Ints:
    """Repeat rows of the smaller of two datasets until they are a fraction `least_share` of all.

    `order` (S, 2) is as in `JointDataset`. The counts of any two repeated rows differ by at most 1.
    """
    parts = [order[order[:, 0] == label] for label in (0, 1)]
    small = int(len(parts[1]) < len(parts[0]))
    count, needed = len(parts[small]), least_share / (1.0 - least_share) * len(parts[1 - small])
    wanted = max(count, math.ceil(needed - 1e-9))
    parts[small] = parts[small][np.arange(wanted) * count // wanted]
    return np.concatenate(parts)


def joint_dataset(structures: Sequence[Structure], elements: Sequence[int]) -> JointDataset:
    """A dataset of the structures in their order; those with a cell are crystals."""
    labels = np.array([structure.cell is not None for structure in structures], dtype=np.int64)
    molecules = pack([item for item in structures if item.cell is None])
    crystals = pack([item for item in structures if item.cell is not None])
    rows = np.arange(len(crystals))
    parts = [molecule_dataset(molecules, np.arange(len(molecules)), elements)]
    if len(crystals):
        parts.append(crystal_dataset(reduce_cells(crystals, rows), rows, elements))
    place = np.where(labels, labels.cumsum(), (1 - labels).cumsum()) - 1
    return JointDataset(parts, np.stack([labels, place], axis=1))

"""Molecules: open any source, hold some of it out, serve padded batches.

`readers.py` lists the sources. Molecules keep all hydrogens and are centered on the mean of their
atoms. Molecules are skipped if they have one atom, more than `max_atoms` atoms, elements other than
the given ones, coordinates that are not finite, or overlapping atoms.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from openunite.data.atoms.arrays import TEST, TRAIN, VAL, StructureArrays
from openunite.data.atoms.dataset import (
    AtomData,
    AtomDataset,
    Features,
    content_digests,
    element_indices,
    open_structures,
)
from openunite.data.atoms.structure import Ints
from openunite.data.holdout import Holdout
from openunite.data.molecules.qm9 import NUM_MOLECULES
from openunite.data.molecules.readers import MoleculeSource, read_molecules

MoleculeData = AtomData
Split = Literal["auto", "edm", "hash"]

_QM9_ATOMS = {1: 1_208_486, 6: 831_925, 7: 132_498, 8: 183_265, 9: 3_036}
_EDM_TRAIN, _EDM_VAL = 100_000, 17_748


def open_molecules(
    source: MoleculeSource,
    *,
    elements: tuple[str | int, ...] | None = None,
    max_atoms: int | None = None,
    split: Split = "auto",
    holdout_share: float = 0.05,
    holdout_max: int = 1000,
    max_bad_share: float = 0.001,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> MoleculeData:
    """Open a source; `elements` (None: those found) and `max_atoms` (None: any) limit it.

    Each atom in a batch's `data`, float32 (B, N, 4), has the index of its element in
    `MoleculeData.elements`, then x, y, z in Angstrom. `split`: "edm" is EDM's and needs all of QM9;
    "hash" holds out round(`holdout_share` * N) molecules, 1 to `holdout_max`, by content; "auto"
    takes the source's own split, else EDM's for all of QM9, else "hash". ValueError if a fraction
    above `max_bad_share` of the records is unusable; ValueError, FileNotFoundError or ImportError
    if the source cannot be used.
    """
    holdout = Holdout(holdout_share, holdout_max)
    if split not in ("auto", "edm", "hash"):
        raise ValueError(f"split must be auto, edm or hash, got {split!r}")
    reading = read_molecules(source, cache_dir=cache_dir, progress=progress)
    whole_qm9 = is_whole_qm9(reading.structures)
    if split == "edm" and not whole_qm9:
        raise ValueError(
            f"split 'edm' needs the {NUM_MOLECULES} molecules of QM9, {reading.name} has "
            f"{len(reading.structures)}; use 'hash'"
        )
    if split == "edm" or (whole_qm9 and reading.split is None):
        reading = replace(reading, split=edm_split())
    return open_structures(
        reading,
        molecule_dataset,
        content_digests(reading.structures),
        elements=elements,
        min_atoms=2,
        max_atoms=max_atoms,
        by_content=split == "hash",
        holdout=holdout,
        max_bad_share=max_bad_share,
    )


def molecule_dataset(found: StructureArrays, rows: Ints, elements: Sequence[int]) -> AtomDataset:
    """A dataset of the molecules in `rows`: 4 features per atom, positions centered."""
    features = np.concatenate([element_indices(found, elements), _centered(found)], axis=1)
    return AtomDataset(found, features, rows)


def edm_split() -> Ints:
    """EDM's split (130831,) of QM9's 130,831 molecules in the order of their numbers."""
    order = np.random.RandomState(0).permutation(NUM_MOLECULES)
    split = np.full(NUM_MOLECULES, TEST, dtype=np.int64)
    split[order[:_EDM_TRAIN]] = TRAIN
    split[order[_EDM_TRAIN : _EDM_TRAIN + _EDM_VAL]] = VAL
    return split


def is_whole_qm9(structures: StructureArrays) -> bool:
    """Whether there are as many molecules and atoms of each element as in QM9."""
    numbers, counts = np.unique(structures.numbers, return_counts=True)
    found = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    return len(structures) == NUM_MOLECULES and found == _QM9_ATOMS


def _centered(structures: StructureArrays) -> Features:
    """Positions of all atoms (A, 3), Angstrom, relative to the mean of their molecule."""
    sizes = structures.sizes
    filled = np.flatnonzero(sizes)
    centers = np.zeros((len(sizes), 3))
    starts = structures.offsets[filled]
    sums = np.add.reduceat(structures.positions, starts, axis=0, dtype=np.float64)
    centers[filled] = sums / sizes[filled, None]
    return (structures.positions - np.repeat(centers, sizes, axis=0)).astype(np.float32)

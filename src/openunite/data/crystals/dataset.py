"""Crystals: open any source, hold some of it out, serve padded batches.

`readers.py` lists the sources. Cells are Niggli-reduced (not made primitive) and rebuilt from their
six parameters; fractional coordinates lie in [0, 1). Crystals are skipped if they have more than
`max_atoms` atoms, elements other than the given ones, non-finite coordinates or cells, a cell of
almost no volume, or overlapping atoms.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from openunite.data.atoms.arrays import StructureArrays
from openunite.data.atoms.checks import sound_rows
from openunite.data.atoms.dataset import (
    AtomData,
    AtomDataset,
    Features,
    content_digests,
    element_indices,
    open_structures,
)
from openunite.data.atoms.lattice import fractional_of, parameters_from_cell, reduce_cells
from openunite.data.atoms.structure import Ints
from openunite.data.crystals.readers import CrystalSource, read_crystals
from openunite.data.holdout import Holdout

CrystalData = AtomData
Split = Literal["auto", "hash"]


def open_crystals(
    source: CrystalSource,
    *,
    elements: tuple[str | int, ...] | None = None,
    max_atoms: int | None = 20,
    max_e_above_hull: float | None = None,
    split: Split = "auto",
    holdout_share: float = 0.05,
    holdout_max: int = 1000,
    max_bad_share: float = 0.001,
    progress: bool = True,
) -> CrystalData:
    """Open a source; `elements` (None: those found) and `max_atoms` (None: any) limit it.

    Each atom in a batch's `data`, float32 (B, N, 10), has the index of its element in
    `CrystalData.elements`, fractional coordinates, and the crystal's a, b, c (Angstrom), alpha,
    beta, gamma (degrees). Rows above `max_e_above_hull` (eV per atom) are left out and not counted
    as bad. `split`, `holdout_share`, `holdout_max`, `max_bad_share` and errors are as for
    `open_molecules`, without EDM's split.
    """
    holdout = Holdout(holdout_share, holdout_max)
    if split not in ("auto", "hash"):
        raise ValueError(f"split must be auto or hash, got {split!r}")
    reading = read_crystals(source, max_e_above_hull=max_e_above_hull, progress=progress)
    # Digests are taken before the reduction, so that its details cannot change the split.
    digests = content_digests(reading.structures)
    reduced = reduce_cells(reading.structures, sound_rows(reading.structures))
    return open_structures(
        replace(reading, structures=reduced),
        crystal_dataset,
        digests,
        elements=elements,
        min_atoms=1,
        max_atoms=max_atoms,
        by_content=split == "hash",
        holdout=holdout,
        max_bad_share=max_bad_share,
    )


def crystal_dataset(found: StructureArrays, rows: Ints, elements: Sequence[int]) -> AtomDataset:
    """A dataset of the crystals in `rows`, whose cells are reduced: 10 features per atom."""
    columns = [element_indices(found, elements), fractional_of(found, rows)]
    return AtomDataset(found, np.concatenate(columns, axis=1), rows, _lattices(found, rows))


def _lattices(structures: StructureArrays, rows: Ints) -> Features:
    """The six lattice parameters of each crystal (S, 6); zeros for those not in `rows`."""
    assert structures.cells is not None
    parameters = np.zeros((len(structures), 6), dtype=np.float32)
    parameters[rows] = parameters_from_cell(structures.cells[rows])
    return parameters

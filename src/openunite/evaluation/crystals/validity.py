"""Is a crystal possible at all? The validity of CDVAE, structural and compositional, and ADiT's.

Most papers report CDVAE's. ADiT also requires that the angles of the cell lie inside `ANGLE_RANGE`
(those of cells that are not Niggli-reduced often do not) and that matminer finds CrystalNN
fingerprints ("ops") for all sites, for validity and match rate. Matminer is a heavy dependency and
that criterion is not part of this package; it can only lower overall validity and match rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.lattice import parameters_from_cell
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.crystals.composition import compositional_validity
from openunite.optional import optional
from openunite.progress import bar

MIN_DISTANCE = 0.5  # Angstrom
MIN_VOLUME = 0.1  # cubic Angstrom
ANGLE_RANGE = (50.0, 130.0)  # degrees; ADiT's guard, for Niggli-reduced cells
MAX_NUMBER = 104
FAULTS = ("unconstructible", "volume", "distance")

_MAX_LENGTH = 1e4  # Angstrom; float64 cannot tell atoms apart in cells much longer


@dataclass(frozen=True)
class CrystalValidity:
    """What is wrong with the geometry of each crystal ("": nothing), which compositions (M,) are
    plausible, and which cells (M,) have all angles in ADiT's range."""

    faults: tuple[str, ...]
    compositional: NDArray[np.bool_]
    in_angle_range: NDArray[np.bool_]

    @property
    def structural(self) -> NDArray[np.bool_]:
        """Crystals (M,) without a fault."""
        return np.array([not fault for fault in self.faults], dtype=bool)

    @property
    def overall(self) -> NDArray[np.bool_]:
        """Crystals (M,) that are valid in both ways."""
        return self.structural & self.compositional


def crystal_validity(structures: Sequence[Structure]) -> CrystalValidity:
    """Structural and compositional validity; shows progress.

    ImportError without pymatgen or SMACT, ValueError for a structure without a cell.
    """
    shown = bar(structures, desc="validity", disable=None, leave=False)
    faults = tuple(map(structural_fault, shown))
    angles = np.array([in_angle_range(each) for each in structures], dtype=bool)
    return CrystalValidity(faults, compositional_validity(structures), angles)


def in_angle_range(structure: Structure) -> bool:
    """Whether all angles of the cell, as it is given, lie inside the open `ANGLE_RANGE`.

    ADiT applies this to samples of models trained on Niggli-reduced cells. A reduced cell is always
    inside, but a fifth of the cells of MP-20's files, read without reduction, are not.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        angles = parameters_from_cell(cell_of(structure))[3:]
    return bool(((angles > ANGLE_RANGE[0]) & (angles < ANGLE_RANGE[1])).all())  # False for NaN


def structural_fault(structure: Structure) -> str:
    """The first of `FAULTS` that a crystal has, "" for a valid one.

    - unconstructible: no atoms, numbers that are not finite, an atomic number outside 1 to 104,
      or an edge of the cell of length zero or above 10,000 A.
    - volume: below 0.1 cubic A.
    - distance: two atoms less than 0.5 A apart, nearest images. Distances between
      images of the same atom do not count, as in CDVAE and ADiT: a one-atom cubic cell with an edge
      of 0.48 A passes.
    """
    cell = cell_of(structure)
    if not _constructible(structure):
        return "unconstructible"
    if abs(np.linalg.det(cell)) < MIN_VOLUME:
        return "volume"
    lattice = optional("pymatgen.core", "crystals", "structural validity").Lattice(cell)
    distances = lattice.get_all_distances(structure.fractional, structure.fractional)
    np.fill_diagonal(distances, np.inf)
    return "distance" if distances.min() < MIN_DISTANCE else ""


def cell_of(structure: Structure) -> Floats:
    """The cell (3, 3) in Angstrom. ValueError, naming the structure, for a molecule."""
    if structure.cell is None:
        raise ValueError(
            f"expected crystals, got {structure.name or 'a structure'} without a cell; molecules "
            "have metrics of their own"
        )
    return structure.cell


def _constructible(structure: Structure) -> bool:
    numbers, lengths = structure.numbers, np.linalg.norm(cell_of(structure), axis=1)
    return (
        len(structure) > 0
        and bool(((numbers >= 1) & (numbers <= MAX_NUMBER)).all())
        and bool(np.isfinite(structure.positions).all())
        and bool(((lengths > 0.0) & (lengths <= _MAX_LENGTH)).all())  # False for NaN
    )

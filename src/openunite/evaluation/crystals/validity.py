"""Is a crystal possible at all? The validity of CDVAE and ADiT, structural and compositional.

What differs: ADiT calls a crystal valid only if matminer also finds CrystalNN fingerprints ("ops")
for all of its sites, and its match rate inherits that. Matminer is heavy and the criterion is not
part of this package; it can only lower overall validity and match rate.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.lattice import parameters_from_cell
from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.composition import compositional_validity
from openunite.evaluation.crystals.periodic import cell_of, periodic_distances
from openunite.progress import bar

MIN_DISTANCE = 0.5  # Angstrom
MIN_VOLUME = 0.1  # cubic Angstrom
ANGLE_RANGE = (50.0, 130.0)  # degrees; ADiT's guard, for Niggli-reduced cells
MAX_NUMBER = 104
FAULTS = ("unconstructible", "angles", "volume", "distance")

_ANY_ANGLE = (0.0, 180.0)
_MAX_LENGTH = 1e4  # Angstrom; float64 cannot tell atoms apart in cells much longer


@dataclass(frozen=True)
class CrystalValidity:
    """What is wrong with the geometry of each crystal ("": nothing) and which compositions (M,)
    are plausible. `any_angles` (M,) have no fault but perhaps that of angles: CDVAE's protocol."""

    faults: tuple[str, ...]
    compositional: NDArray[np.bool_]
    any_angles: NDArray[np.bool_]

    @property
    def structural(self) -> NDArray[np.bool_]:
        """Crystals (M,) without a fault."""
        return np.array([not fault for fault in self.faults], dtype=bool)

    @property
    def overall(self) -> NDArray[np.bool_]:
        """Crystals (M,) that are valid in both ways."""
        return self.structural & self.compositional


def crystal_validity(
    structures: Sequence[Structure], *, angle_range: tuple[float, float] = ANGLE_RANGE
) -> CrystalValidity:
    """Structural and compositional validity; shows progress.

    `angle_range` as in `structural_fault`. ImportError without SMACT, ValueError for a structure
    without a cell.
    """
    shown = bar(structures, desc="validity", disable=None, leave=False)
    faults = tuple(structural_fault(each, angle_range=angle_range) for each in shown)
    any_angles = [
        not (structural_fault(each, angle_range=_ANY_ANGLE) if fault == "angles" else fault)
        for each, fault in zip(structures, faults, strict=True)
    ]
    return CrystalValidity(faults, compositional_validity(structures), np.array(any_angles, bool))


def structural_validity(
    structures: Iterable[Structure], *, angle_range: tuple[float, float] = ANGLE_RANGE
) -> NDArray[np.bool_]:
    """Which crystals (M,) have no `structural_fault`. Needs numpy alone."""
    faults = [structural_fault(each, angle_range=angle_range) for each in structures]
    return np.array([not fault for fault in faults], dtype=bool)


def structural_fault(
    structure: Structure, *, angle_range: tuple[float, float] = ANGLE_RANGE
) -> str:
    """The first of `FAULTS` that a crystal has, "" for a valid one.

    - unconstructible: no atoms, numbers that are not finite, an atomic number outside 1 to 104,
      or an edge of the cell of length zero or above 10,000 A.
    - angles: one outside the open `angle_range`, in degrees. The cell is judged as given, as ADiT
      does with what a model trained on Niggli-reduced cells generates. A reduced cell is always
      inside, but a fifth of the cells of MP-20's files, read unreduced, are not. Pass (0, 180) for
      cells in another setting, and for CDVAE's protocol.
    - volume: below 0.1 cubic A.
    - distance: two atoms less than 0.5 A apart, nearest images. The images of one atom among
      themselves are not looked at (nor are they by CDVAE and ADiT): a one-atom cubic cell of edge
      0.48 A passes.
    """
    cell = cell_of(structure)
    if not _constructible(structure):
        return "unconstructible"
    angles = parameters_from_cell(cell)[3:]
    lowest, highest = angle_range
    if angles.min() <= lowest or angles.max() >= highest:
        return "angles"
    if abs(np.linalg.det(cell)) < MIN_VOLUME:
        return "volume"
    distances = periodic_distances(structure)
    np.fill_diagonal(distances, np.inf)
    return "distance" if distances.min() < MIN_DISTANCE else ""


def _constructible(structure: Structure) -> bool:
    numbers, lengths = structure.numbers, np.linalg.norm(cell_of(structure), axis=1)
    return (
        len(structure) > 0
        and bool(((numbers >= 1) & (numbers <= MAX_NUMBER)).all())
        and bool(np.isfinite(structure.positions).all())
        and bool(((lengths > 0.0) & (lengths <= _MAX_LENGTH)).all())  # False for NaN
    )

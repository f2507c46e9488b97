"""Find what is wrong with structures, many at a time."""

import itertools

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.arrays import StructureArrays
from openunite.data.atoms.elements import MAX_NUMBER, symbol_of
from openunite.data.atoms.structure import Floats, Ints

MIN_DISTANCE = 0.4  # Angstrom; closer atoms overlap
MIN_VOLUME = 0.1  # cubic Angstrom
MAX_EXTENT = 1e4  # Angstrom along an axis; one larger structure would set the scale of all
_ATOMS = 20_000  # atoms per chunk of the distance search
_THIN = 0.8  # Angstrom; if lattice planes are closer, the 27 nearest images are searched


def find_faults(
    structures: StructureArrays,
    *,
    elements: tuple[int, ...] | None,
    min_atoms: int,
    max_atoms: int | None,
) -> list[str]:
    """One sentence per structure that says what is wrong with it, "" if nothing is.

    A fault is a wrong number of atoms, an element that is not in `elements` (None: any of 1 to
    118), coordinates or a cell that are not finite, a cell with almost no volume or huge edges,
    atoms more than `MAX_EXTENT` apart along an axis, or two less than `MIN_DISTANCE` apart,
    periodic images included.
    """
    faults = [_count_fault(size, min_atoms, max_atoms) for size in structures.sizes.tolist()]
    _mark_elements(faults, structures, elements)
    if structures.cells is not None:
        for i, fault in enumerate(cell_faults(structures.cells)):
            faults[i] = faults[i] or fault
    for i in np.flatnonzero(~_finite(structures)).tolist():
        faults[i] = faults[i] or "has coordinates that are not finite numbers"
    for i in np.flatnonzero(_extents(structures) > MAX_EXTENT).tolist():
        faults[i] = faults[i] or f"extends over more than {MAX_EXTENT:g} Angstrom"
    rows = np.flatnonzero([not fault for fault in faults])
    distances = closest(structures, rows)
    for i in np.flatnonzero(distances < MIN_DISTANCE).tolist():
        faults[rows[i]] = f"has two atoms {distances[i]:.3f} Angstrom apart, they overlap"
    return faults


def sound_rows(structures: StructureArrays) -> Ints:
    """Rows (R,) of the crystals whose positions are finite and whose cells have a volume."""
    assert structures.cells is not None
    faults = cell_faults(structures.cells)
    return np.flatnonzero(_finite(structures) & np.array([not fault for fault in faults], bool))


def closest(structures: StructureArrays, rows: Ints) -> Floats:
    """The smallest distance between two atoms of each of the given structures (R,), Angstrom.

    For crystals, periodic images count, also those of the atom itself. The distance is inf for a
    molecule of one atom, exact below `MIN_DISTANCE`, and else an upper bound.
    """
    found = np.full(len(rows), np.inf)
    sizes = structures.sizes[rows]
    for size in np.unique(sizes).tolist():
        of_size = np.flatnonzero(sizes == size)
        chunk = max(1, _ATOMS // max(1, size))
        for start in range(0, len(of_size), chunk):
            at = of_size[start : start + chunk]
            atoms = structures.offsets[rows[at]][:, None] + np.arange(size)
            positions = structures.positions[atoms].astype(np.float64)
            if structures.cells is None:
                found[at] = _closest(positions)
            else:
                found[at] = _closest_periodic(positions, structures.cells[rows[at]])
    return found


def _count_fault(size: int, least: int, most: int | None) -> str:
    if size < least:
        return f"has {size} atom{'s' * (size != 1)}, expected at least {least}"
    if most is not None and size > most:
        return f"has {size} atoms, more than max_atoms = {most}"
    return ""


def _mark_elements(
    faults: list[str], structures: StructureArrays, elements: tuple[int, ...] | None
) -> None:
    """Write into `faults` the first disallowed element of each structure that has one."""
    allowed = np.zeros(256, dtype=bool)
    allowed[list(elements) if elements is not None else slice(1, MAX_NUMBER + 1)] = True
    atoms = np.flatnonzero(~allowed[structures.numbers])
    owners = np.searchsorted(structures.offsets, atoms, side="right") - 1
    for atom, i in zip(atoms[::-1].tolist(), owners[::-1].tolist(), strict=True):
        number = int(structures.numbers[atom])
        if 1 <= number <= MAX_NUMBER:
            among = ", ".join(map(symbol_of, elements or ()))
            faults[i] = f"has the element {symbol_of(number)}, expected {among}"
        else:
            faults[i] = f"has atomic number {number}, expected 1 to {MAX_NUMBER}"


def _finite(structures: StructureArrays) -> NDArray[np.bool_]:
    """Whether all positions of each structure (S,) are finite."""
    finite = np.isfinite(structures.positions).all(axis=1)
    bad = np.concatenate([[0], np.cumsum(~finite)])[structures.offsets]
    sound: NDArray[np.bool_] = np.diff(bad) == 0
    return sound


def _extents(structures: StructureArrays) -> Floats:
    """The largest range of a coordinate of each structure (S,); 0 where it is not finite."""
    filled = np.flatnonzero(structures.sizes)
    found, starts = np.zeros(len(structures)), structures.offsets[filled]
    if len(filled):
        with np.errstate(invalid="ignore", over="ignore"):
            upper = np.maximum.reduceat(structures.positions, starts, axis=0)
            lower = np.minimum.reduceat(structures.positions, starts, axis=0)
            found[filled] = np.nan_to_num(upper - lower, posinf=0.0).max(axis=1)
    return found


def cell_faults(cells: Floats) -> list[str]:
    """One sentence per cell (S, 3, 3) that says what is wrong with it, "" if nothing is."""
    finite = np.isfinite(cells).reshape(-1, 9).all(axis=1)
    volumes = np.abs(np.linalg.det(np.where(finite.reshape(-1, 1, 1), cells, 0.0)))
    faults = [""] * len(cells)
    for i in np.flatnonzero(volumes < MIN_VOLUME):
        faults[i] = f"has a cell of {volumes[i]:.3g} cubic Angstrom, expected {MIN_VOLUME} or more"
    for i in np.flatnonzero((np.abs(cells) > MAX_EXTENT).any(axis=(1, 2))):
        faults[i] = f"has a cell with an edge of more than {MAX_EXTENT:g} Angstrom"
    for i in np.flatnonzero(~finite):
        faults[i] = "has a cell that is not finite or cannot be reduced"
    return faults


def _closest(positions: Floats) -> Floats:
    """Positions (M, N, 3) -> smallest distance (M,), in a loop over atoms as N may be large."""
    found = np.full(len(positions), np.inf)
    for i in range(positions.shape[1] - 1):
        between = positions[:, i + 1 :] - positions[:, i : i + 1]
        found = np.minimum(found, (between**2).sum(axis=2).min(axis=1))
    return np.sqrt(found)


def _closest_periodic(positions: Floats, cells: Floats) -> Floats:
    """Positions (M, N, 3) in cells (M, 3, 3) -> smallest distance (M,), images included.

    A vector shorter than half the spacing of the lattice planes in every direction has fractional
    coordinates in (-1/2, 1/2), so wrapping finds it. For thinner cells 27 images are tried.
    """
    inverse = np.linalg.inv(cells)
    planes = 1.0 / np.linalg.norm(inverse, axis=1)
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)), dtype=np.float64)
    images = shifts if (planes < _THIN).any() else np.zeros((1, 3))
    own = shifts[np.abs(shifts).any(axis=1)] @ cells
    found = (own**2).sum(axis=2).min(axis=1)
    fractional = positions @ inverse
    for i in range(positions.shape[1] - 1):
        between = fractional[:, i + 1 :] - fractional[:, i : i + 1]
        between -= np.round(between)
        for shift in images:
            squares = (((between + shift) @ cells) ** 2).sum(axis=2)
            found = np.minimum(found, squares.min(axis=1))
    return np.sqrt(found)

"""Bonds, and from them stability, by the distance tables of EDM; numpy only.

A pair of atoms is bonded when it is closer than a typical single bond plus a margin; double and
triple bonds have shorter limits. An atom is stable when its bond orders sum to its valence, a
molecule when all its atoms are. The tables cover H, C, N, O and F without charges. Any other
element bonds to nothing: the atom, and so its molecule, counts as unstable and as invalid. A `cell`
is ignored.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.structure import Floats, Ints, Structure
from openunite.evaluation.measured import Column, Measured
from openunite.evaluation.rates import clustered_rate, rate

H, C, N, O, F = 1, 6, 7, 8, 9  # noqa: E741
VALENCES = {H: 1, C: 4, N: 3, O: 2, F: 1}

# Bond lengths in pm, then a margin: a pair is bonded if it is closer than both together.
_SINGLE = {
    (H, H): 74, (H, C): 109, (H, N): 101, (H, O): 96, (H, F): 92,
    (C, C): 154, (C, N): 147, (C, O): 143, (C, F): 135,
    (N, N): 145, (N, O): 140, (N, F): 136,
    (O, O): 148, (O, F): 142, (F, F): 142,
}  # fmt: skip
_DOUBLE = {(C, C): 134, (C, N): 129, (C, O): 120, (N, N): 125, (N, O): 121, (O, O): 121}
_TRIPLE = {(C, C): 120, (C, N): 116, (C, O): 113, (N, N): 110}
_BONDS = ((_SINGLE, 10), (_DOUBLE, 5), (_TRIPLE, 3))

_ROWS = np.zeros(256, dtype=np.intp)  # atomic number -> row of the tables; 0 for all the others
_ROWS[list(VALENCES)] = np.arange(1, len(VALENCES) + 1)
_VALENCE = np.array([-1, *VALENCES.values()])  # -1, for other elements, is no sum of bond orders


def _limits(lengths: dict[tuple[int, int], int], margin: int) -> Floats:
    """Symmetric (6, 6) table of distances in Angstrom below which a bond counts; -1 for never."""
    table = np.full((len(_VALENCE), len(_VALENCE)), -1.0)
    for (first, second), length in lengths.items():
        row, column = _ROWS[first], _ROWS[second]
        table[row, column] = table[column, row] = (length + margin) / 100.0
    return table


_LIMITS = np.stack([_limits(lengths, margin) for lengths, margin in _BONDS])


def bond_orders(structure: Structure) -> Ints:
    """Bond orders (N, N) from 0 to 3, symmetric, with a zero diagonal.

    Atoms at coordinates that are not finite have no bonds.
    """
    rows = _rows(structure.numbers)
    with np.errstate(invalid="ignore", over="ignore"):
        # The limits of a pair fall from single to triple, so the orders add up.
        orders = (_distances(structure.positions) < _LIMITS[:, rows[:, None], rows]).sum(0)
    np.fill_diagonal(orders, 0)
    return orders.astype(np.int64)


def bonded(numbers: Ints, positions: Floats) -> NDArray[np.bool_]:
    """Which pairs of atoms (M, N, N) are bonded in each of M molecules of N atoms."""
    rows = _rows(numbers)
    with np.errstate(invalid="ignore", over="ignore"):
        limits = _LIMITS[0, rows[:, :, None], rows[:, None]]
        pairs: NDArray[np.bool_] = _distances(positions) < limits
    return pairs & ~np.eye(numbers.shape[1], dtype=bool)


def _distances(positions: Floats) -> Floats:
    """Distances (..., N, N) between positions (..., N, 3)."""
    offsets = positions[..., :, None, :] - positions[..., None, :, :]
    distances: Floats = np.sqrt(np.square(offsets).sum(-1))
    return distances


def stable_atoms(structure: Structure) -> NDArray[np.bool_]:
    """Which atoms (N,) have bond orders that sum to their valence."""
    valences = _VALENCE[_rows(structure.numbers)]
    stable: NDArray[np.bool_] = bond_orders(structure).sum(1) == valences
    return stable


def is_connected(structure: Structure) -> bool:
    """Whether bonds join all atoms to one fragment; False without atoms."""
    bonds = bond_orders(structure) > 0
    reached = np.arange(len(bonds)) < 1
    while (grown := reached | bonds[reached].any(axis=0)).sum() > reached.sum():
        reached = grown
    return len(bonds) > 0 and bool(reached.all())


def unknown_atoms(structure: Structure) -> int:
    """Number of atoms whose element is not in the tables."""
    return int((_rows(structure.numbers) == 0).sum())


def edm_stability(structures: Sequence[Structure]) -> Column:
    """Fractions of stable atoms, molecules, hydrogens and heavy atoms, and of connected molecules.

    `unknown_atoms` is a count. A molecule takes about 0.3 ms. A structure without atoms is neither
    stable nor connected.
    """
    counts = np.zeros((len(structures), 4), dtype=np.int64)
    for row, structure in zip(counts, structures, strict=True):
        is_stable, is_hydrogen = stable_atoms(structure), structure.numbers == H
        row[:2] = len(is_stable), is_stable.sum()
        row[2:] = is_hydrogen.sum(), (is_stable & is_hydrogen).sum()
    atoms, stable, hydrogens, stable_hydrogens = counts.T
    whole = int(((stable == atoms) & (atoms > 0)).sum())
    return {
        "unknown_atoms": Measured(sum(map(unknown_atoms, structures))),
        "atom_stability": clustered_rate(stable, atoms),
        "molecule_stability": rate(whole, len(structures)),
        "hydrogen_stability": clustered_rate(stable_hydrogens, hydrogens),
        "heavy_atom_stability": clustered_rate(stable - stable_hydrogens, atoms - hydrogens),
        "connected": rate(sum(map(is_connected, structures)), len(structures)),
    }


def _rows(numbers: Ints) -> NDArray[np.intp]:
    known = (numbers > 0) & (numbers < len(_ROWS))
    rows: NDArray[np.intp] = _ROWS[np.where(known, numbers, 0)]
    return rows

"""Crystals whose metrics are known by hand."""

import numpy as np
from numpy.typing import ArrayLike

from openunite.data.atoms.elements import atomic_number
from openunite.data.atoms.structure import Floats, Structure

FACES = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def crystal(elements: str, fractional: ArrayLike, cell: ArrayLike, name: str = "") -> Structure:
    """`elements` as "Na Cl", `cell` (3, 3), or (3,) for edges at right angles, or one length."""
    matrix = np.asarray(cell, dtype=np.float64)
    if matrix.ndim < 2:
        matrix = np.diag(np.broadcast_to(matrix, 3))
    numbers = np.array([atomic_number(each) for each in elements.split()], dtype=np.int64)
    return Structure(numbers, np.asarray(fractional, dtype=np.float64) @ matrix, matrix, name)


def rock_salt(elements: str = "Na Cl", edge: float = 5.64) -> Structure:
    """The conventional cell of eight atoms."""
    cation, anion = elements.split()
    sites = np.concatenate([FACES, FACES + 0.5])
    return crystal(" ".join([cation] * 4 + [anion] * 4), sites, edge, f"{cation}{anion}")


def cesium_chloride(elements: str = "Na Cl", edge: float = 3.5) -> Structure:
    """Another structure of the same composition as rock salt."""
    return crystal(elements, [[0, 0, 0], [0.5, 0.5, 0.5]], edge, f"{elements} in CsCl's structure")


def shifted(structure: Structure, shift: ArrayLike) -> Structure:
    """All atoms moved by fractional `shift` (3,) and wrapped into the cell."""
    assert structure.cell is not None
    moved = np.mod(structure.fractional + np.asarray(shift), 1.0)
    return Structure(structure.numbers, moved @ structure.cell, structure.cell)


def repeated(structure: Structure, times: int) -> Structure:
    """A supercell along the first edge."""
    assert structure.cell is not None
    cell = structure.cell * np.array([[times], [1], [1]])
    steps = [structure.positions + k * structure.cell[0] for k in range(times)]
    return Structure(np.tile(structure.numbers, times), np.concatenate(steps), cell)


def scaled(structure: Structure, factor: float) -> Structure:
    """Larger in all directions."""
    assert structure.cell is not None
    return Structure(structure.numbers, structure.positions * factor, structure.cell * factor)


def noisy(structure: Structure, sigma: float, random: np.random.Generator) -> Structure:
    """Gaussian noise of `sigma` Angstrom per axis on the positions."""
    noise: Floats = random.normal(0.0, sigma, structure.positions.shape)
    return Structure(structure.numbers, structure.positions + noise, structure.cell)

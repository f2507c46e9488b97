"""Distances in a crystal, numpy only."""

import itertools

import numpy as np

from openunite.data.atoms.structure import Floats, Structure

_IMAGES = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
_MAX_PASSES = 100
_PAIRS = 20_000  # pairs held at once, with 27 images each


def cell_of(structure: Structure) -> Floats:
    """The cell (3, 3) in Angstrom. ValueError, naming the structure, for a molecule."""
    if structure.cell is None:
        raise ValueError(
            f"expected crystals, got {structure.name or 'a structure'} without a cell; molecules "
            "have metrics of their own"
        )
    return structure.cell


def periodic_distances(structure: Structure) -> Floats:
    """Distances (N, N) in Angstrom between the nearest images of each pair, zero on the diagonal.

    They are exact for every cell, however skewed. Positions must be finite, and the cell must have
    a volume.

    In a basis b_1, b_2, b_3 whose vectors, and b_0 = -(b_1 + b_2 + b_3), meet at no acute angle,
    |sum y_i b_i|^2 = sum_{i<j} p_ij (y_i - y_j)^2 with all p_ij = -b_i b_j >= 0 and y_0 = 0. If the
    four y_i, sorted, have a gap above 1/2, moving those beyond it by 1 shortens the vector; hence
    |y_i| < 3/2 in the shortest one, and wrapped coordinates are at most 1 away from it: of all
    images, 27 suffice.
    """
    basis = _obtuse_basis(cell_of(structure))
    fractional = np.linalg.solve(basis.T, structure.positions.T).T
    shortest = np.empty((len(fractional), len(fractional)))
    rows = max(1, _PAIRS // max(1, len(fractional)))
    for start in range(0, len(fractional), rows):  # in chunks, as a large cell has many pairs
        between = fractional[start : start + rows, None] - fractional[None]
        between -= np.round(between)
        vectors = (between[:, :, None] + _IMAGES) @ basis  # (rows, N, 27, 3)
        squares = np.einsum("ijmk,ijmk->ijm", vectors, vectors).min(-1)
        shortest[start : start + rows] = np.sqrt(squares)
    return shortest


def _obtuse_basis(cell: Floats) -> Floats:
    """A basis (3, 3) of the lattice without acute angles, by Selling's reduction."""
    basis = _size_reduced(cell)
    vectors = np.vstack([basis, -basis.sum(0)])
    while True:
        products = vectors @ vectors.T
        acute = np.triu(products, 1)
        first, second = np.unravel_index(acute.argmax(), acute.shape)
        if acute[first, second] <= 1e-12 * products.max():
            return vectors[:3]
        others = [k for k in range(4) if k not in (first, second)]
        vectors[others] += vectors[first]
        vectors[first] *= -1.0


def _size_reduced(cell: Floats) -> Floats:
    """Subtract integer multiples of each vector from the others, to need few steps afterwards.

    A ratio that exceeds 1/2 by rounding only is kept: in a hexagonal cell it would alternate.
    """
    basis = cell.astype(np.float64)
    for _ in range(_MAX_PASSES):
        before = basis.copy()
        for i, j in itertools.permutations(range(3), 2):
            ratio = basis[i] @ basis[j] / (basis[j] @ basis[j])
            if abs(ratio) > 0.5 + 1e-6:
                basis[i] -= np.round(ratio) * basis[j]
        if (basis == before).all():
            break
    return basis

"""Cells: matrix and six parameters, Niggli reduction, fractional coordinates.

The rows of a cell are the lattice vectors in Angstrom. All functions take any number of cells.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.arrays import StructureArrays
from openunite.data.atoms.structure import Floats, Ints

_TOLERANCE = 1e-5  # of the Niggli conditions, in units of the cube root of the volume
_MAX_PASSES, _PATIENCE = 400, 100


def cell_from_parameters(parameters: NDArray[Any]) -> Floats:
    """a, b, c (Angstrom), alpha, beta, gamma (degrees) (..., 6) -> cells (..., 3, 3).

    c points along z and a lies in the x-z plane. NaN where no cell has these angles.
    """
    values = np.asarray(parameters, dtype=np.float64)
    a, b, c = np.moveaxis(values[..., :3], -1, 0)
    angles = np.radians(values[..., 3:])
    cos_alpha, cos_beta, cos_gamma = np.moveaxis(np.cos(angles), -1, 0)
    sin_alpha, sin_beta, _ = np.moveaxis(np.sin(angles), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)  # of gamma*
        sine = np.sqrt(1.0 - cosine**2)
    zero = np.zeros_like(a)
    rows = [
        np.stack([a * sin_beta, zero, a * cos_beta], axis=-1),
        np.stack([-b * sin_alpha * cosine, b * sin_alpha * sine, b * cos_alpha], axis=-1),
        np.stack([zero, zero, c], axis=-1),
    ]
    return np.stack(rows, axis=-2)


def parameters_from_cell(cells: NDArray[Any]) -> Floats:
    """Cells (..., 3, 3) -> a, b, c (Angstrom), alpha, beta, gamma (degrees) (..., 6)."""
    cells = np.asarray(cells, dtype=np.float64)
    lengths = np.linalg.norm(cells, axis=-1)
    units = cells / lengths[..., None]
    # alpha is between b and c, beta between c and a, gamma between a and b.
    cosines = (units[..., [1, 2, 0], :] * units[..., [2, 0, 1], :]).sum(axis=-1)
    angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
    return np.concatenate([lengths, angles], axis=-1)


def wrap(fractional: NDArray[Any]) -> NDArray[Any]:
    """Fractional coordinates modulo 1, in [0, 1) also after rounding to their precision."""
    wrapped = fractional - np.floor(fractional)
    return np.where(wrapped >= 1.0, np.zeros_like(wrapped), wrapped)


def niggli(cells: Floats) -> Floats:
    """Niggli-reduced cells (M, 3, 3) of the same lattices, right-handed, in the same orientation.

    The algorithm of Grosse-Kunstleve, Sauter and Adams, Acta Cryst. A60, 1-6 (2004), for all
    cells at once; they must be finite and have a volume. NaN where it does not converge.
    """
    volumes = np.linalg.det(cells)
    change = np.eye(3) * np.sign(volumes)[:, None, None]
    tolerance = _TOLERANCE * np.abs(volumes) ** (1.0 / 3.0)
    active = np.arange(len(cells))
    for i in range(_MAX_PASSES):
        if not len(active):
            break
        # Conditions that hold within rounding can contradict each other: then be less strict.
        eps = tolerance[active] * 10.0 ** (i // _PATIENCE)
        step, again = _pass(change[active] @ cells[active], eps)
        change[active] = step @ change[active]
        active = active[again]
    change[active] = np.nan
    return change @ cells


def reduce_cells(structures: StructureArrays, rows: Ints) -> StructureArrays:
    """Convert the crystals in `rows` to Niggli cells; the others stay as they are.

    Cells are rebuilt from their six parameters, which fixes the orientation, and fractional
    coordinates lie in [0, 1).
    """
    if structures.cells is None:
        raise ValueError("expected crystals, got structures without cells")
    reduced = structures.cells.copy()
    reduced[rows] = niggli(structures.cells[rows])
    turned = reduced.copy()
    turned[rows] = cell_from_parameters(parameters_from_cell(reduced[rows]))
    positions = structures.positions.astype(np.float64)
    owner = np.repeat(np.arange(len(structures)), structures.sizes)
    chosen = np.isin(owner, rows)
    inverse = np.zeros_like(reduced)
    inverse[rows] = np.linalg.inv(reduced[rows])
    fractional = np.einsum("ak,akl->al", positions[chosen], inverse[owner[chosen]])
    positions[chosen] = np.einsum("ak,akl->al", wrap(fractional), turned[owner[chosen]])
    return replace(structures, positions=positions, cells=turned)


def fractional_of(structures: StructureArrays, rows: Ints) -> NDArray[np.float32]:
    """Fractional coordinates (A, 3) in [0, 1); zeros for crystals that are not in `rows`."""
    assert structures.cells is not None
    inverse = np.zeros_like(structures.cells)
    inverse[rows] = np.linalg.inv(structures.cells[rows])
    each = np.repeat(inverse, structures.sizes, axis=0)
    positions = np.where(np.isfinite(structures.positions), structures.positions, 0.0)
    return wrap(wrap(np.einsum("ak,akl->al", positions, each)).astype(np.float32))


def _pass(cells: Floats, eps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """One round of steps 1 to 8: changes of basis (M, 3, 3), and which cells need another."""
    change = np.broadcast_to(np.eye(3), cells.shape).copy()
    a, b, _, xi, eta, _ = _metric(cells)
    change[(a > b + eps) | (_near(a, b, eps) & (abs(xi) > abs(eta) + eps))] = _SWAP_AB  # 1
    _, b, c, _, eta, zeta = _metric(change @ cells)
    again = (b > c + eps) | (_near(b, c, eps) & (abs(eta) > abs(zeta) + eps))
    change[again] = _SWAP_BC @ change[again]  # 2
    signs = _signs(_metric(change @ cells)[3:].T, eps)
    change[~again] = signs[~again] @ change[~again]  # 3 and 4
    for chosen, shear in _shears(_metric(change @ cells), eps):
        rows = np.flatnonzero(chosen & ~again)
        change[rows] = shear[rows] @ change[rows]
        again[rows] = True
    return change, again


def _shears(metric: Floats, eps: Floats) -> list[tuple[NDArray[np.bool_], Floats]]:
    """Steps 5 to 8: where each applies (M,) and its change (M, 3, 3)."""
    a, b, _, xi, eta, zeta = metric
    step5 = (abs(xi) > b + eps) | (_near(xi, b, eps) & (2 * eta < zeta - eps))
    step6 = (abs(eta) > a + eps) | (_near(eta, a, eps) & (2 * xi < zeta - eps))
    step7 = (abs(zeta) > a + eps) | (_near(zeta, a, eps) & (2 * xi < eta - eps))
    total = xi + eta + zeta + a + b
    step8 = (total < -eps) | (_near(total, 0.0, eps) & (2 * (a + eta) + zeta > eps))
    one = np.ones_like(a)
    return [
        (step5 | (_near(xi, -b, eps) & (zeta < -eps)), _shear({(2, 1): -_multiple(xi, b)})),
        (step6 | (_near(eta, -a, eps) & (zeta < -eps)), _shear({(2, 0): -_multiple(eta, a)})),
        (step7 | (_near(zeta, -a, eps) & (eta < -eps)), _shear({(1, 0): -_multiple(zeta, a)})),
        (step8, _shear({(2, 0): one, (2, 1): one})),
    ]


def _shear(entries: dict[tuple[int, int], Floats]) -> Floats:
    """Unit matrices (M, 3, 3) with these entries set."""
    count = len(next(iter(entries.values())))
    shear = np.tile(np.eye(3), (count, 1, 1))
    for (row, column), values in entries.items():
        shear[:, row, column] = values
    return shear


_SWAP_AB = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
_SWAP_BC = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])


def _metric(cells: Floats) -> Floats:
    """A, B, C = squared lengths; xi, eta, zeta = 2 b.c, 2 c.a, 2 a.b: (6, M)."""
    squares = (cells**2).sum(axis=2)
    products = 2.0 * (cells[:, [1, 2, 0]] * cells[:, [2, 0, 1]]).sum(axis=2)
    return np.concatenate([squares, products], axis=1).T


def _near(first: Floats, second: Floats | float, eps: Floats) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = abs(first - second) <= eps
    return close


def _multiple(product: Floats, square: Floats) -> Floats:
    """Signed number of times to subtract the shorter vector: the nearest integer, at least 1."""
    return np.sign(product) * np.maximum(1.0, np.rint(abs(product) / (2.0 * square)))


def _signs(products: Floats, eps: Floats) -> Floats:
    """Sign changes (M, 3, 3) of determinant 1 after which xi, eta, zeta are all > 0 or all <= 0."""
    positive, zero = products > eps[:, None], abs(products) <= eps[:, None]
    count = positive.sum(axis=1)
    acute = (count == 3) | (~zero.any(axis=1) & (count == 1))
    signs = np.where(
        acute[:, None], np.where(products < 0, -1.0, 1.0), np.where(positive, -1.0, 1.0)
    )
    # A product that is zero may have either sign, which repairs the determinant.
    odd = signs.prod(axis=1) < 0
    last_zero = 2 - zero[:, ::-1].argmax(axis=1)
    rows = np.flatnonzero(odd)
    signs[rows, last_zero[rows]] *= -1.0
    return signs[:, :, None] * np.eye(3)

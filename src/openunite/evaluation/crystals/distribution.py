"""Distances between the distributions of one number over two sets of crystals."""

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.crystals.periodic import cell_of

_GRAMS_PER_CM3 = 1.66053906892  # one atomic mass unit per cubic Angstrom


def densities(structures: Iterable[Structure]) -> Floats:
    """Mass densities (M,) in g/cm^3; infinite for a cell without a volume."""
    with np.errstate(divide="ignore"):
        return np.array(
            [
                sum(map(_mass, each.numbers.tolist()))
                * _GRAMS_PER_CM3
                / np.abs(np.linalg.det(cell_of(each)))
                for each in structures
            ]
        )


def element_counts(structures: Iterable[Structure]) -> Floats:
    """Number of different elements in each structure (M,)."""
    return np.array([len(np.unique(each.numbers)) for each in structures], dtype=np.float64)


def wasserstein_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Wasserstein-1 distance of two samples (M,) and (K,), in their unit.

    It is the area between the two cumulative distributions. ValueError if a sample is empty.
    """
    a, b = (np.sort(np.asarray(values, dtype=np.float64)) for values in (first, second))
    if len(a) == 0 or len(b) == 0:
        raise ValueError(f"expected two samples of numbers, got {len(a)} and {len(b)} values")
    steps = np.sort(np.concatenate([a, b]))
    below_a = np.searchsorted(a, steps[:-1], side="right") / len(a)
    below_b = np.searchsorted(b, steps[:-1], side="right") / len(b)
    return float((np.abs(below_a - below_b) * np.diff(steps)).sum())


@cache
def _mass(number: int) -> float:
    try:
        from pymatgen.core import Element
    except ImportError as error:
        raise ImportError("densities need pymatgen: pip install 'openunite[crystals]'") from error
    return float(Element(symbol_of(number)).atomic_mass)

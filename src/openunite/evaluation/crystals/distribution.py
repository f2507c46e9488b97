"""Numbers of crystals whose distributions over two sets are compared."""

from collections.abc import Iterable
from functools import cache

import numpy as np

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.crystals.validity import cell_of
from openunite.optional import optional

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


@cache
def _mass(number: int) -> float:
    element = optional("pymatgen.core", "crystals", "the density of crystals").Element
    return float(element(symbol_of(number)).atomic_mass)

"""Columns of molecules and crystals: what their files say, and what is computed from the atoms."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from openunite.conditions.composition import formula_of
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.distribution import densities, element_counts

Column = Callable[[], list[Any]]


def columns_of(structures: Sequence[Structure]) -> dict[str, Column]:
    """Columns by name, None where a structure has no value; those of files come first.

    Computed are `formula`, `num_elements`, and of crystals `volume_per_atom` (A^3 per atom) and
    `density` (g/cm^3).
    """
    names = dict.fromkeys(name for structure in structures for name in structure.info)
    found: dict[str, Column] = {
        "formula": lambda: list(map(formula, structures)),
        "num_elements": lambda: element_counts(structures).astype(int).tolist(),
    }
    if all(structure.cell is not None for structure in structures):
        found["volume_per_atom"] = lambda: list(map(volume_per_atom, structures))
        found["density"] = lambda: densities(structures).tolist()
    return found | {name: partial(_noted, structures, name) for name in names}


def formula(structure: Structure) -> str:
    """The formula of all atoms: "Li2O"."""
    numbers, counts = np.unique(structure.numbers, return_counts=True)
    return formula_of(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))


def formula_histogram(data: AtomDataset) -> dict[str, int]:
    """How many structures have each formula."""
    numbers, counts = data.compositions()
    rows, times = np.unique(counts, axis=0, return_counts=True)
    pairs = [zip(numbers.tolist(), row, strict=True) for row in rows.tolist()]
    formulas = [formula_of({number: n for number, n in pair if n}) for pair in pairs]
    return dict(zip(formulas, times.tolist(), strict=True))


def volume_per_atom(structure: Structure) -> float:
    """Volume of the cell over the number of atoms, A^3."""
    assert structure.cell is not None
    return float(abs(np.linalg.det(structure.cell))) / len(structure)


def _noted(structures: Sequence[Structure], name: str) -> list[str | None]:
    return [structure.info.get(name) for structure in structures]

"""How many different crystals are there, and how many of them are new?

Only crystals of the same reduced composition are compared, because the matcher never matches
others. The most frequent composition decides the cost. All comparisons use `structure_matcher`.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.convert import to_pymatgen
from openunite.data.atoms.structure import Ints, Structure
from openunite.evaluation.crystals.composition import Composition, reduced_composition
from openunite.evaluation.crystals.matching import quiet, structure_matcher
from openunite.progress import bar

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure as PymatgenStructure


def unique_crystals(structures: Sequence[Structure]) -> Ints:
    """Positions (U,), ascending, of one crystal of each kind; shows progress.

    The first crystal of a kind stands for it, as in `StructureMatcher.group_structures`. Uniqueness
    is U / M among valid crystals. It falls with M: compare sets of one size only.
    """
    matcher = structure_matcher()
    kinds: dict[Composition, list[_Reduced]] = defaultdict(list)
    unique = []
    for i, structure in enumerate(bar(structures, desc="unique", disable=None, leave=False)):
        known, candidate = kinds[reduced_composition(structure)], _Reduced(structure)
        if not any(kind.matches(candidate, matcher) for kind in known):
            known.append(candidate)
            unique.append(i)
    return np.array(unique, dtype=np.int64)


def novel_crystals(
    structures: Sequence[Structure], known: Sequence[Structure]
) -> NDArray[np.bool_]:
    """Which crystals (M,) match none of the `known` ones; shows progress.

    Novelty is their fraction among the `unique_crystals`.
    """
    matcher = structure_matcher()
    compositions = [reduced_composition(structure) for structure in structures]
    by_composition: dict[Composition, list[_Reduced]] = {each: [] for each in compositions}
    for structure in known:
        composition = reduced_composition(structure)
        if composition in by_composition:
            by_composition[composition].append(_Reduced(structure))
    novel = np.ones(len(structures), dtype=bool)
    shown = bar(structures, desc="novel", disable=None, leave=False)
    for i, (structure, composition) in enumerate(zip(shown, compositions, strict=True)):
        candidate = _Reduced(structure)
        novel[i] = not any(each.matches(candidate, matcher) for each in by_composition[composition])
    return novel


class _Reduced:
    """A crystal and its Niggli-reduced primitive cell, which is computed at first use."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure

    @cached_property
    def cell(self) -> "PymatgenStructure | None":
        """The reduced cell; None if pymatgen fails, and then the crystal matches nothing."""
        with quiet():
            try:
                found = to_pymatgen(self.structure)
                return found.get_reduced_structure("niggli").get_primitive_structure()
            except Exception:  # one odd crystal must not end the evaluation
                return None

    def matches(self, other: "_Reduced", matcher: "StructureMatcher") -> bool:
        """Whether `other` is the same crystal. Primitive cells of different size never match."""
        mine, theirs = self.cell, other.cell
        if mine is None or theirs is None or len(mine) != len(theirs):
            return False
        with quiet():
            try:
                return bool(matcher.fit(mine, theirs, skip_structure_reduction=True))
            except Exception:  # as in `cell`
                return False

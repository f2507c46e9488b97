"""Does a composition balance? SMACT's rule with the data of SMACT 2014, as in CDVAE and ADiT.

By default SMACT 4 uses other oxidation states, and then disagrees on one composition in seven; here
the set is always "smact14". The data are SMACT's and the answer is that of
`smact.screening.smact_validity(composition, oxidation_states_set="smact14")`, but not every
combination of oxidation states is tried: SMACT takes seconds for some compositions of ten elements,
which untrained models generate. Elements without an electronegativity (Pm, Rn, Lr) are treated as
in CDVAE's code, where charges alone decide; SMACT 4 rejects them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.optional import optional

Composition = tuple[tuple[int, int], ...]  # (atomic number, count), ascending

# With more combinations, ADiT gives up and calls the composition invalid.
MAX_COMBINATIONS = 10_000_000


@dataclass(frozen=True)
class _ElementData:
    states: tuple[int, ...]
    electronegativity: float | None
    is_metal: bool


def reduced_composition(structure: Structure) -> Composition:
    """Elements and reduced counts: Na4Cl4 -> ((11, 1), (17, 1)); empty without atoms."""
    numbers, counts = np.unique(structure.numbers, return_counts=True)
    divisor = math.gcd(*counts.tolist())
    return tuple(zip(numbers.tolist(), (counts // max(1, divisor)).tolist(), strict=True))


def compositional_validity(structures: Iterable[Structure]) -> NDArray[np.bool_]:
    """Whether the composition of each structure (M,) `balances`. ImportError without SMACT."""
    return np.array([balances(reduced_composition(each)) for each in structures], dtype=bool)


@cache
def balances(composition: Composition) -> bool:
    """Whether a reduced composition is plausible: oxidation states cancel and fit the elements.

    Single elements pass, and so do alloys of metals on SMACT's list. Otherwise each element takes
    one oxidation state, the charges must sum to zero, and every cation must have a lower Pauling
    electronegativity than every anion; if one is unknown, charges alone decide. A compound fails
    if SMACT has no oxidation states for an element (He, Ne, Ar, those beyond Lr), or if there are
    more than `MAX_COMBINATIONS` combinations of states. An atomic number outside 1 to 118 fails.
    """
    if not composition or not all(1 <= number <= 118 for number, _ in composition):
        return False
    if len(composition) == 1:
        return True
    elements = [_element_data(number) for number, _ in composition]
    if all(each.is_metal for each in elements):
        return True
    if math.prod(len(each.states) for each in elements) > MAX_COMBINATIONS:
        return False
    return _charges_cancel(elements, [count for _, count in composition])


def _charges_cancel(elements: Sequence[_ElementData], counts: Sequence[int]) -> bool:
    """Whether charges can cancel, trying each electronegativity as the highest of the cations."""
    scale = [each.electronegativity for each in elements]
    known = [value for value in scale if value is not None]
    if len(known) < len(scale):
        return _reaches_zero([each.states for each in elements], counts)
    return any(
        _reaches_zero(
            [
                [state for state in each.states if (state > 0) == (value <= highest)]
                for each, value in zip(elements, known, strict=True)
            ],
            counts,
        )
        for highest in set(known)
    )


def _reaches_zero(states: Sequence[Sequence[int]], counts: Sequence[int]) -> bool:
    charges = {0}
    for allowed, count in zip(states, counts, strict=True):
        charges = {charge + count * state for charge in charges for state in allowed}
    return 0 in charges


@cache
def _element_data(number: int) -> _ElementData:
    smact = optional("smact", "crystals", "compositional validity")
    symbol = symbol_of(number)
    try:
        found = smact.Element(symbol)
    except (KeyError, NameError):  # SMACT ends at Lr
        return _ElementData((), None, False)
    states = tuple(found.oxidation_states_smact14 or ())
    return _ElementData(states, found.pauling_eneg, symbol in smact.metals)

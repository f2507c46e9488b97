"""SMACT's rule with the oxidation states of 2014."""

from collections import Counter
from math import prod

import numpy as np
import pytest
from tests.evaluation.crystals.examples import crystal, rock_salt

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.composition import (
    MAX_COMBINATIONS,
    Composition,
    balances,
    compositional_validity,
    reduced_composition,
)

smact = pytest.importorskip("smact", reason="needs openunite[crystals]")
core = pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")
pytestmark = pytest.mark.filterwarnings("ignore:No Pauling electronegativity")


# Without electronegativity (Pm, Rn, Lr) SMACT 4 refuses what CDVAE's code lets charges decide.
KNOWN = [number for number in range(1, 104) if number not in (61, 86, 103)]


def composition(formula: str) -> Composition:
    counts = core.Composition(formula).reduced_composition
    return tuple(sorted((element.Z, int(count)) for element, count in counts.items()))


def by_smact(found: Composition) -> bool:
    from smact.screening import smact_validity

    formula = core.Composition({symbol_of(number): count for number, count in found})
    return bool(smact_validity(formula, oxidation_states_set="smact14"))


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", True),
        ("NaCl2", False),
        ("Fe2O3", True),
        ("Fe3O4", False),  # one oxidation state per element
        ("TiO2", True),
        ("LiFePO4", True),
        ("CuZn", True),  # metals alone
        ("Na", True),
        ("O", True),  # one element
        ("NaO7", False),
        ("XeF2", True),
        ("HeNa", False),  # helium has no oxidation states
        ("Pm2O3", True),  # promethium has no electronegativity: charges decide
        ("PmO7", False),
        ("RnF2", True),
        ("LrCl3", True),
        ("He", True),
        ("RfO2", False),  # no data
        ("Og", True),
    ],
)
def test_known_compositions(formula: str, expected: bool) -> None:
    assert balances(composition(formula)) is expected


def test_composition_is_reduced_and_sorted() -> None:
    assert reduced_composition(rock_salt("Cl Na")) == ((11, 1), (17, 1))
    assert reduced_composition(Structure(np.array([], dtype=int), np.zeros((0, 3)))) == ()


def test_a_cation_must_be_less_electronegative_than_an_anion() -> None:
    # O 3.44 against F 3.98: only O+2 F-1 is left, not O-2 F+1 (nor is there an F+1).
    assert balances(composition("OF2"))
    assert not balances(composition("HeF2"))


def test_nothing_and_unknown_numbers_are_invalid() -> None:
    assert not balances(())
    assert not balances(((0, 1),))
    assert not balances(((119, 1),))


def test_same_answer_as_smact_on_random_compositions() -> None:
    random = np.random.default_rng(0)
    answers: Counter[bool] = Counter()
    for _ in range(1500):
        numbers = random.choice(KNOWN, random.integers(2, 5), replace=False)
        found = tuple(sorted((int(z), int(random.integers(1, 7))) for z in numbers))
        divisor = int(np.gcd.reduce([count for _, count in found]))
        found = tuple((number, count // divisor) for number, count in found)
        answers[balances(found)] += 1
        assert balances(found) == by_smact(found), found
    assert min(answers.values()) > 200


def test_too_many_combinations_are_invalid() -> None:
    elements = ["Fe", "Mn", "Cr", "V", "Ru", "Os", "Re", "N", "C", "S", "P", "O"]
    states = [len(smact.Element(each).oxidation_states_smact14) for each in elements]
    assert prod(states) > MAX_COMBINATIONS
    assert not balances(composition("".join(elements)))


def test_validity_of_many() -> None:
    salts = [rock_salt(), crystal("Na Cl Cl", np.eye(3) / 2, 4.0)]
    assert compositional_validity(salts).tolist() == [True, False]
    assert compositional_validity([]).shape == (0,)

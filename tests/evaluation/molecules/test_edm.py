"""Bond orders and stability of molecules checked by hand."""

import numpy as np
import pytest
from tests.evaluation.molecules.examples import (
    ACETYLENE,
    AMMONIUM,
    BROKEN,
    CARBON_DIOXIDE,
    CHLOROMETHANE,
    ETHYLENE,
    HYDROGEN_CYANIDE,
    METHANE,
    SOUND,
    WATER,
    molecule,
    moved,
)

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.edm import (
    bond_orders,
    edm_stability,
    is_connected,
    stable_atoms,
)
from openunite.evaluation.rates import rate


def test_sound_molecules_are_stable() -> None:
    for name, structure in SOUND.items():
        assert stable_atoms(structure).all(), name
    stability = edm_stability(list(SOUND.values()))
    assert stability["molecule_stability"].value == stability["atom_stability"].value == 1.0
    assert stability["atom_stability"].total == sum(map(len, SOUND.values()))
    assert stability["unknown_atoms"].value == 0


def test_bond_orders_by_hand() -> None:
    expected = np.zeros((6, 6), dtype=int)
    expected[0, 1] = 2
    expected[0, 2] = expected[0, 3] = expected[1, 4] = expected[1, 5] = 1
    np.testing.assert_array_equal(bond_orders(ETHYLENE), expected + expected.T)
    assert bond_orders(ACETYLENE)[0, 1] == 3
    np.testing.assert_array_equal(bond_orders(HYDROGEN_CYANIDE), [[0, 1, 0], [1, 0, 3], [0, 3, 0]])
    np.testing.assert_array_equal(bond_orders(CARBON_DIOXIDE)[0], [0, 2, 2])


@pytest.mark.parametrize(
    ("symbols", "limit", "below", "above"),
    [
        ("C C", 1.64, 1, 0),  # 154 + 10 pm
        ("C C", 1.39, 2, 1),  # 134 + 5
        ("C C", 1.23, 3, 2),  # 120 + 3
        ("O N", 1.26, 2, 1),
        ("N C", 1.19, 3, 2),
        ("H O", 1.06, 1, 0),
        ("F F", 1.52, 1, 0),
        ("H H", 0.84, 1, 0),
    ],
)
def test_limits_of_the_tables(symbols: str, limit: float, below: int, above: int) -> None:
    for distance, order in ((limit - 0.001, below), (limit + 0.001, above)):
        pair = molecule(symbols, (0, 0, 0), (0, 0, distance))
        assert bond_orders(pair)[0, 1] == bond_orders(pair)[1, 0] == order


def test_a_broken_molecule_hydrogens_and_heavy_atoms_apart() -> None:
    np.testing.assert_array_equal(stable_atoms(BROKEN), [False, True, True, True, False])
    stability = edm_stability([BROKEN, WATER, AMMONIUM])
    for name, hits, total in (("atom", 3 + 3 + 4, 13), ("hydrogen", 3 + 2 + 4, 10)):
        found = stability[f"{name}_stability"]
        assert (found.value, found.total) == (hits / total, total)
    heavy = stability["heavy_atom_stability"]
    assert (heavy.value, heavy.total) == (1 / 3, 3)
    assert stability["molecule_stability"] == rate(1, 3)


def test_molecules_in_one_piece_and_in_two() -> None:
    chain = molecule("C C C C", (0, 0, 0), (3.0, 0, 0), (4.5, 0, 0), (1.5, 0, 0))  # 0-3-1-2
    apart = molecule("C C C C", (0, 0, 0), (3.2, 0, 0), (4.7, 0, 0), (1.5, 0, 0))
    assert is_connected(chain)
    assert not is_connected(apart)
    assert all(map(is_connected, SOUND.values()))
    empty = Structure(np.array([], int), np.zeros((0, 3)))
    assert edm_stability([chain, apart, METHANE, empty])["connected"] == rate(2, 4)


def test_elements_outside_the_tables_are_unstable_and_counted() -> None:
    """Chlorine has no bonds, so the carbon of chloromethane lacks one."""
    np.testing.assert_array_equal(stable_atoms(CHLOROMETHANE), [False, True, True, True, False])
    strange = Structure(np.array([0, -3, 400]), np.zeros((3, 3)))
    stability = edm_stability([CHLOROMETHANE, strange, METHANE])
    assert stability["unknown_atoms"].value == 4
    assert stability["molecule_stability"] == rate(1, 3)


def test_positions_that_are_not_finite_and_empty_structures_are_unstable() -> None:
    lost = moved(WATER, np.full((3, 3), np.nan))
    gone = moved(WATER, np.array([[np.inf, 0, 0], [np.inf, 0, 0], [1e300, 0, 0]]))
    empty = Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    stability = edm_stability([lost, gone, empty])
    assert stability["atom_stability"].value == 0.0
    assert stability["molecule_stability"] == rate(0, 3)
    assert edm_stability([])["molecule_stability"] == rate(0, 0)


def test_hydrogens_on_one_spot_bond_to_each_other() -> None:
    """A collapsed methane: the carbon counts its four bonds, no hydrogen has one alone."""
    np.testing.assert_array_equal(
        stable_atoms(moved(METHANE, np.zeros((5, 3)))), [True, False, False, False, False]
    )

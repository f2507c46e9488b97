"""Keys of largest fragments: equal wherever SMILES are."""

import numpy as np
import pytest
from tests.evaluation.molecules.examples import CHLOROMETHANE, METHANE, SOUND, WATER, moved

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.edm import bond_orders, bonded
from openunite.evaluation.molecules.edm_rdkit import edm_smiles
from openunite.evaluation.molecules.fragments import fragment_keys

EMPTY = Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))


def together(first: Structure, second: Structure) -> Structure:
    """Two molecules 20 A apart as one structure."""
    numbers = np.concatenate([first.numbers, second.numbers])
    return Structure(numbers, np.concatenate([first.positions, second.positions + 20.0]))


def test_sound_molecules_have_keys_of_their_own() -> None:
    keys = fragment_keys([*SOUND.values(), CHLOROMETHANE, EMPTY])
    assert len(set(keys)) == len(SOUND) + 2


def test_only_the_largest_fragment_counts() -> None:
    alone = fragment_keys(list(SOUND.values()))
    pairs = [together(WATER, molecule) for molecule in SOUND.values()]
    water = alone[list(SOUND).index("O")]
    expected = [key if len(m) > 3 else water for key, m in zip(alone, SOUND.values(), strict=True)]
    assert fragment_keys(pairs) == expected


def test_the_order_of_atoms_and_the_batch_do_not_matter() -> None:
    random = np.random.default_rng(0)
    for molecule in SOUND.values():
        order = random.permutation(len(molecule))
        other = Structure(molecule.numbers[order], molecule.positions[order])
        one, two, _ = fragment_keys([molecule, other, METHANE])
        assert fragment_keys([molecule]) == [one] == [two]


def test_equal_smiles_have_equal_keys() -> None:
    pytest.importorskip("rdkit")
    random = np.random.default_rng(0)
    broken = [
        moved(molecule, molecule.positions + random.normal(0.0, 0.15, molecule.positions.shape))
        for molecule in SOUND.values()
        for _ in range(40)
    ]
    known: dict[str, int] = {}
    for smiles, key in zip(map(edm_smiles, broken), fragment_keys(broken), strict=True):
        if smiles is not None:
            assert known.setdefault(smiles, key) == key
    assert len(known) > len(SOUND)


def test_bonds_are_those_of_bond_orders() -> None:
    for molecule in [*SOUND.values(), CHLOROMETHANE]:
        found = bonded(molecule.numbers[None], molecule.positions[None])[0]
        np.testing.assert_array_equal(found, bond_orders(molecule) > 0)

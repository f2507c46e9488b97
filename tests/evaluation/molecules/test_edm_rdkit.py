"""SMILES, validity, uniqueness and novelty from EDM bonds."""

import numpy as np
import pytest
from tests.evaluation.molecules.examples import (
    AMMONIUM,
    BROKEN,
    CHLOROMETHANE,
    ETHYLENE,
    METHANE,
    SOUND,
    WATER,
    moved,
)

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.edm_rdkit import edm_molecule, edm_smiles
from openunite.evaluation.molecules.smiles import smiles_scores, smiles_set
from openunite.evaluation.rates import rate

Chem = pytest.importorskip("rdkit.Chem", reason="needs openunite[molecules]")


def with_hydrogens(smiles: str) -> str:
    return str(Chem.MolToSmiles(Chem.AddHs(Chem.MolFromSmiles(smiles))))


def test_smiles_of_sound_molecules() -> None:
    for smiles, structure in SOUND.items():
        assert edm_smiles(structure) == with_hydrogens(smiles)


def test_the_molecule_keeps_atom_order_and_coordinates() -> None:
    found = edm_molecule(ETHYLENE)
    assert found is not None
    assert [atom.GetAtomicNum() for atom in found.GetAtoms()] == ETHYLENE.numbers.tolist()
    np.testing.assert_allclose(found.GetConformer().GetPositions(), ETHYLENE.positions)


def test_only_the_largest_fragment_counts() -> None:
    numbers = np.concatenate([WATER.numbers, ETHYLENE.numbers])
    positions = np.concatenate([WATER.positions + 20.0, ETHYLENE.positions])
    assert edm_smiles(Structure(numbers, positions)) == with_hydrogens("C=C")


def test_invalid_molecules_print_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert edm_smiles(AMMONIUM) is None  # the valence of N is broken
    assert edm_smiles(CHLOROMETHANE) is None  # no table for Cl
    assert edm_smiles(moved(WATER, np.full((3, 3), np.nan))) is None
    assert edm_smiles(Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))) is None
    assert capfd.readouterr() == ("", "")
    assert not caplog.records  # PoseBusters, once imported, sends what RDKit says there
    Chem.MolFromSmiles("nonsense")  # outside, RDKit speaks as before
    assert "nonsense" in capfd.readouterr().err + caplog.text


def test_validity_uniqueness_and_novelty_by_hand() -> None:
    structures = [METHANE, METHANE, WATER, ETHYLENE, AMMONIUM]
    smiles = list(map(edm_smiles, structures))
    scores = smiles_scores(smiles, smiles_set([METHANE, AMMONIUM], edm_smiles))
    assert scores == {
        "validity": rate(4, 5),
        "uniqueness": rate(3, 4),
        "valid_and_unique": rate(3, 5),
        "novelty": rate(2, 3),
    }
    assert "novelty" not in smiles_scores(smiles)


def test_validity_is_not_stability() -> None:
    """A carbon with three bonds is filled up by RDKit: valid, though EDM calls it unstable."""
    assert edm_smiles(BROKEN) is not None

"""The ADiT protocol: bonds in the PDB record, SMILES, matches, silence."""

import numpy as np
import pytest
from tests.evaluation.molecules.examples import (
    ACETYLENE,
    CHLOROMETHANE,
    ETHYLENE,
    METHANE,
    SOUND,
    WATER,
    molecule,
    moved,
)

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.adit import (
    adit_match,
    adit_pdb,
    adit_rmsd,
    adit_smiles,
)
from openunite.evaluation.molecules.smiles import smiles_scores, smiles_set
from openunite.evaluation.rates import rate

Chem = pytest.importorskip("rdkit.Chem", reason="needs openunite[molecules]")
openbabel = pytest.importorskip("openbabel.openbabel", reason="needs openunite[molecules-adit]")
molecule_matcher = pytest.importorskip(
    "pymatgen.analysis.molecule_matcher", reason="needs openunite[molecules-adit]"
)

LOST = moved(WATER, np.full((3, 3), np.nan))
NOTHING = Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
NO_ELEMENT = Structure(np.array([0, 1, 1]), WATER.positions)
# A carbon with five carbons around it, all at the length of a bond: a valence too many.
CROWDED = molecule(
    "C C C C C C",
    (0, 0, 0),
    (0, 0, 1.5),
    (0, 0, -1.5),
    (1.5, 0, 0),
    (-0.75, 1.3, 0),
    (-0.75, -1.3, 0),
)


def connections(structure: Structure) -> list[list[str]]:
    lines = adit_pdb(structure).splitlines()
    return [line.split()[1:] for line in lines if line.startswith("CONECT")]


def test_the_record_repeats_double_and_triple_bonds() -> None:
    assert sorted(connections(ETHYLENE)[0][1:]) == ["2", "2", "3", "4"]
    assert sorted(connections(ACETYLENE)[0][1:]) == ["2", "2", "2", "3"]


def test_smiles_of_sound_molecules_with_and_without_hydrogens() -> None:
    for smiles, structure in SOUND.items():
        if smiles == "O":  # RDKit adds a bond between the hydrogens of water
            continue
        whole = Chem.MolToSmiles(Chem.AddHs(Chem.MolFromSmiles(smiles)))
        assert adit_smiles(structure) == whole
        assert adit_smiles(structure, remove_hydrogens=True) == smiles
    assert adit_smiles(CHLOROMETHANE, remove_hydrogens=True) == "CCl"


@pytest.mark.parametrize(
    "structure", [LOST, NOTHING, NO_ELEMENT, CROWDED], ids=["lost", "nothing", "strange", "crowded"]
)
def test_invalid_molecules_print_nothing(
    structure: Structure,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    level = openbabel.obErrorLog.GetOutputLevel()
    assert adit_smiles(structure) is None
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert openbabel.obErrorLog.GetOutputLevel() == level


def test_novelty_is_among_the_valid() -> None:
    structures = [METHANE, METHANE, ETHYLENE, LOST]
    known = smiles_set([METHANE], adit_smiles)
    scores = smiles_scores(list(map(adit_smiles, structures)), known, novelty_among_valid=True)
    assert scores["validity"] == rate(3, 4)
    assert scores["uniqueness"] == rate(2, 3)
    assert scores["novelty"] == rate(1, 3)


def test_match_and_rmsd() -> None:
    """Atoms may come in another order; another molecule, or a lost one, does not match."""
    order = [1, 0, 4, 5, 2, 3]
    renamed = Structure(ETHYLENE.numbers[order], ETHYLENE.positions[order] + 3.0)
    rmsd = adit_rmsd([renamed, METHANE, LOST], [ETHYLENE, ACETYLENE, WATER])
    assert rmsd[0] == pytest.approx(0.0, abs=1e-3)
    assert np.isinf(rmsd[1:]).all()

    match = adit_match([renamed, METHANE], [ETHYLENE, ACETYLENE])
    assert match["adit_match_rate"] == rate(1, 2)
    assert match["adit_rmsd"].value == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(ValueError, match="one output per reference"):
        adit_rmsd([METHANE], [])

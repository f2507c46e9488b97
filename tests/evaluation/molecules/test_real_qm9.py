"""The metrics on real QM9 molecules, against values measured with other code.

Reads `qm9/qm9.npz` (n_atoms, z, pos) in the folder OPENUNITE_DATA, by default ../shared/data beside
the repository.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.molecules.examples import moved

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.adit import adit_match, adit_smiles
from openunite.evaluation.molecules.edm import edm_stability
from openunite.evaluation.molecules.edm_rdkit import edm_smiles
from openunite.evaluation.molecules.smiles import smiles_scores
from openunite.evaluation.pairs import kabsch_rmsd

FOLDER = Path(os.environ.get("OPENUNITE_DATA", Path(__file__).parents[4] / "shared" / "data"))
FILE = FOLDER / "qm9" / "qm9.npz"

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason=f"no {FILE}; name the folder of data in OPENUNITE_DATA"
)


@pytest.fixture(scope="module")
def molecules() -> list[Structure]:
    """3,000 drawn at random."""
    with np.load(FILE) as data:
        sizes, numbers, positions = data["n_atoms"].astype(int), data["z"], data["pos"]
    ends = sizes.cumsum()
    chosen = np.random.default_rng(0).choice(len(sizes), 3000, replace=False)
    parts = [slice(ends[i] - sizes[i], ends[i]) for i in chosen]
    return [
        Structure(numbers[part].astype(np.int64), positions[part].astype(np.float64))
        for part in parts
    ]


def shaken(structures: list[Structure], sigma: float) -> list[Structure]:
    rng = np.random.default_rng(1)
    return [
        moved(each, each.positions + sigma * rng.normal(size=each.positions.shape))
        for each in structures
    ]


def test_edm(molecules: list[Structure]) -> None:
    stability = edm_stability(molecules)
    assert stability["atom_stability"].value == pytest.approx(0.993, abs=0.003)
    assert stability["molecule_stability"].value == pytest.approx(0.950, abs=0.012)
    pytest.importorskip("rdkit", reason="needs openunite[molecules]")
    scores = smiles_scores(list(map(edm_smiles, molecules)))
    assert scores["validity"].value == pytest.approx(0.973, abs=0.010)
    assert scores["uniqueness"].value > 0.999


def test_edm_stability_feels_hundredths_of_an_angstrom(molecules: list[Structure]) -> None:
    real, *noisy = (
        edm_stability(shaken(molecules[:400], sigma))["molecule_stability"].value
        for sigma in (0.0, 0.02, 0.05, 0.1)
    )
    assert real > 0.92
    assert noisy[0] < real
    assert noisy[1] < 0.6 * real
    assert noisy[2] < 0.1


@pytest.mark.slow
def test_adit_validity(molecules: list[Structure]) -> None:
    pytest.importorskip("openbabel", reason="needs openunite[molecules-adit]")
    pytest.importorskip("rdkit", reason="needs openunite[molecules]")
    kept = smiles_scores(list(map(adit_smiles, molecules[:2000])))
    assert 0.935 < kept["validity"].value < 0.96
    assert kept["uniqueness"].value > 0.999
    bare = smiles_scores([adit_smiles(each, remove_hydrogens=True) for each in molecules[:2000]])
    assert 0.96 < bare["validity"].value < 0.982
    noisy = smiles_scores(list(map(adit_smiles, shaken(molecules[:400], 0.12))))
    assert 0.75 < noisy["validity"].value < 0.89


@pytest.mark.parametrize(("sigma", "expected"), [(0.02, 0.0326), (0.04, 0.0647), (0.1, 0.1616)])
def test_identity_rmsd_of_noise(molecules: list[Structure], sigma: float, expected: float) -> None:
    rmsd = kabsch_rmsd(shaken(molecules[:400], sigma), molecules[:400]).mean()
    assert rmsd == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_adit_match_of_noise(molecules: list[Structure]) -> None:
    pytest.importorskip("openbabel", reason="needs openunite[molecules-adit]")
    pytest.importorskip("pymatgen.analysis.molecule_matcher", reason="openunite[molecules-adit]")
    few = molecules[:200]
    perfect = adit_match(few, few)
    assert perfect["adit_match_rate"].value == 1.0
    assert 0.0 < perfect["adit_rmsd"].value < 0.03  # labels of equivalent atoms: never quite zero
    noisy = adit_match(shaken(few, 0.04), few)
    assert 0.91 < noisy["adit_match_rate"].value < 1.0
    assert noisy["adit_rmsd"].value == pytest.approx(0.0741, abs=0.015)

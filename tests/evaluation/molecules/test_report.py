"""Every metric of the samples has its twin on real molecules; nothing heavy is imported early."""

import subprocess
import sys

import numpy as np
import pytest
from tests.evaluation.molecules.examples import BROKEN, CHLOROMETHANE, METHANE, SOUND, WATER, moved

from openunite.evaluation.molecules.edm_rdkit import edm_smiles
from openunite.evaluation.molecules.report import molecule_report
from openunite.evaluation.molecules.smiles import smiles_set
from openunite.optional import optional

SAMPLES, REAL = [METHANE, METHANE, BROKEN, WATER], list(SOUND.values())


def test_stability_alone_by_hand() -> None:
    metrics = molecule_report(SAMPLES, REAL, protocols=("stability",)).metrics
    assert metrics["num_samples"] == 4
    assert metrics["num_real"] == len(REAL)
    assert metrics["sample_atom_stability"] == pytest.approx(16 / 18)
    assert metrics["sample_atom_stability_of"] == 18
    assert metrics["sample_molecule_stability"] == pytest.approx(3 / 4)
    assert metrics["sample_hydrogen_stability"] == pytest.approx(13 / 14)
    assert metrics["sample_heavy_atom_stability"] == pytest.approx(3 / 4)
    assert metrics["sample_connected"] == pytest.approx(3 / 4)
    assert metrics["real_connected"] == 1.0
    assert metrics["sample_molecule_stability_se"] == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert metrics["real_atom_stability"] == metrics["real_molecule_stability"] == 1.0


def test_samples_without_a_formula_stand_apart() -> None:
    report = molecule_report(SAMPLES, REAL, free=[BROKEN, WATER], protocols=("stability",))
    assert report.metrics["free_molecule_stability"] == 0.5
    assert report.metrics["sample_molecule_stability"] == 0.75
    assert "no formula" in report.table()
    assert "no formula" not in molecule_report(SAMPLES, REAL, protocols=("stability",)).table()


def test_every_metric_has_its_twin_and_lies_between_0_and_1() -> None:
    pytest.importorskip("rdkit", reason="needs openunite[molecules]")
    known = smiles_set([METHANE], edm_smiles)
    metrics = molecule_report(SAMPLES, REAL, train_smiles=known).metrics
    sample = {name.removeprefix("sample_") for name in metrics if name.startswith("sample_")}
    real = {name.removeprefix("real_") for name in metrics if name.startswith("real_")}
    assert sample == real
    assert sample >= {"validity", "uniqueness", "valid_and_unique", "novelty", "atom_stability"}
    assert all(0 <= value <= 1 for name, value in metrics.items() if f"{name}_of" in metrics)
    assert metrics["sample_uniqueness"] == pytest.approx(3 / 4)
    assert metrics["sample_novelty"] == pytest.approx(2 / 3)
    assert metrics["real_novelty"] == pytest.approx(7 / 8)
    assert "sample_novelty" not in molecule_report(SAMPLES, REAL).metrics


def test_all_protocols_together() -> None:
    pytest.importorskip("posebusters", reason="needs openunite[molecules-adit]")
    pytest.importorskip("openbabel.openbabel", reason="needs openunite[molecules-adit]")
    report = molecule_report(
        SAMPLES, REAL, protocols=("edm", "adit", "posebusters"), num_posebusters=1
    )
    samples = report.columns["samples"]
    assert samples.keys() == report.columns["real"].keys()
    assert samples["adit_validity"].total == 4
    assert samples["adit_no_h_validity"].total == 4
    assert samples["posebusters_internal_energy"].total <= 1


def test_table_names_each_metric_and_foreign_elements() -> None:
    report = molecule_report([METHANE, CHLOROMETHANE], REAL, protocols=("stability",))
    lines = report.table().splitlines()
    assert lines[0] == "2 samples, 8 real"
    assert lines[1].split() == ["samples", "real"]
    assert lines[2].split() == ["atoms", "without", "a", "rule", "of", "bonds", "1", "0"]
    assert lines[4].split() == (
        ["stable", "molecules", "0.5", "+-", "0.35", "of", "2", "1", "+-", "0", "of", "8"]
    )


def test_reconstructions_beside_their_originals() -> None:
    shaken = [moved(each, each.positions + 7.0) for each in REAL[:-1]] + [
        moved(REAL[-1], REAL[-1].positions * 2.0)
    ]
    metrics = molecule_report(REAL, REAL, reconstructions=shaken).metrics
    assert metrics["atom_type_accuracy"] == 1.0
    assert metrics["recon_molecule_stability"] == pytest.approx(7 / 8)
    assert metrics["real_molecule_stability"] == 1.0
    # Carbon dioxide of twice the length: two of three atoms are 1.17 A off.
    assert metrics["identity_rmsd"] == pytest.approx(1.17 * np.sqrt(2 / 3) / 8)
    assert not any("adit" in name for name in metrics)
    rates = [name.removesuffix("_of") for name in metrics if name.endswith("_of")]
    assert {"atom_type_accuracy", "recon_molecule_stability", "real_atom_stability"} <= set(rates)
    assert {f"{name}_se" for name in [*rates, "identity_rmsd"]} <= metrics.keys()


def test_reconstruction_table() -> None:
    shaken = [moved(each, each.positions * 2.0) for each in REAL[:1]] + REAL[1:]
    text = molecule_report(REAL, REAL, reconstructions=shaken).table()
    lines = text.partition("\n\n")[2].splitlines()
    assert lines[0].split() == ["reconstructions", "real"]
    assert lines[1].split()[-5:] == ["1", "+-", "0", "of", "32"]
    assert [line.split()[0] for line in lines[3:]] == ["RMSD", "stable", "stable"]
    assert lines[5].split() == (
        ["stable", "molecules", "0.875", "+-", "0.12", "of", "8", "1", "+-", "0", "of", "8"]
    )
    assert max(map(len, lines)) <= 80


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="expected protocols among stability, edm"):
        molecule_report(SAMPLES, REAL, protocols=("EDM",))
    with pytest.raises(ValueError, match="expected at least one molecule in samples"):
        molecule_report([], REAL)


def test_missing_packages_name_their_extra() -> None:
    with pytest.raises(ImportError, match=r"needs no_such_package: pip install 'openunite\[x\]'"):
        optional("no_such_package.part", "x")


def test_importing_the_metrics_imports_nothing_heavy() -> None:
    code = (
        "import sys, openunite.evaluation.molecules.report\n"
        "heavy = {'rdkit', 'openbabel', 'pymatgen', 'posebusters', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

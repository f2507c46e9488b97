"""The report on a handful of crystals whose every metric is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.crystals.examples import (
    cesium_chloride,
    crystal,
    noisy,
    repeated,
    rock_salt,
)

from openunite.evaluation.crystals.report import crystal_report
from openunite.evaluation.report import Report

pytest.importorskip("smact", reason="needs openunite[crystals]")
pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")

CROWDED = crystal("Na Cl", [[0, 0, 0], [0.1, 0, 0]], 4.0)
UNBALANCED = crystal("Na Cl Cl", [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], 6.0)
SAMPLES = [rock_salt(), repeated(rock_salt(), 2), cesium_chloride(), CROWDED, UNBALANCED]
REFERENCE = [rock_salt(), rock_salt("K Cl"), UNBALANCED, rock_salt("Na Br")]
TRAIN = [rock_salt(), rock_salt("K Br")]


@pytest.fixture(scope="module")
def report() -> Report:
    random = np.random.default_rng(0)
    outputs = [noisy(each, 0.05, random) for each in REFERENCE[:3]] + [rock_salt("Na I")]
    return crystal_report(SAMPLES, REFERENCE, train=TRAIN, reconstructions=outputs)


def test_validity_of_samples_and_of_real_crystals(report: Report) -> None:
    metrics = report.metrics
    assert (metrics["num_samples"], metrics["num_reference"], metrics["num_train"]) == (5, 4, 2)
    assert metrics["sample_structural_validity"] == pytest.approx(4 / 5)
    assert metrics["sample_compositional_validity"] == pytest.approx(4 / 5)
    assert metrics["sample_validity"] == pytest.approx(3 / 5)
    assert metrics["sample_validity_se"] == pytest.approx(np.sqrt(0.6 * 0.4 / 5))
    assert metrics["sample_faults_distance"] == 1
    assert metrics["sample_faults_volume"] == metrics["real_faults_distance"] == 0
    assert metrics["sample_validity_adit"] == metrics["sample_validity"]
    assert metrics["real_structural_validity"] == 1.0
    assert metrics["real_compositional_validity"] == metrics["real_validity"] == 3 / 4


def test_uniqueness_and_novelty(report: Report) -> None:
    metrics = report.metrics
    assert (metrics["sample_num_valid"], metrics["sample_num_unique"]) == (3, 2)
    assert metrics["sample_uniqueness"] == pytest.approx(2 / 3)
    assert metrics["sample_num_novel"] == 1
    assert metrics["sample_novelty"] == pytest.approx(1 / 2)
    assert metrics["real_uniqueness"] == 1.0
    assert metrics["real_novelty"] == pytest.approx(2 / 3)


def test_distances_and_their_twins(report: Report) -> None:
    metrics = report.metrics
    assert metrics["sample_num_elements_wasserstein"] == 0.0
    assert metrics["sample_density_wasserstein"] > 0.0
    # Halves of the reference: NaCl (NaCl2 is invalid) against KCl and NaBr.
    assert metrics["real_num_elements_wasserstein"] == 0.0
    mass = {"NaCl": 58.443, "KCl": 74.551, "NaBr": 102.894}
    expected = ((mass["KCl"] + mass["NaBr"]) / 2 - mass["NaCl"]) * 4 * 1.660539 / 5.64**3
    assert metrics["real_density_wasserstein"] == pytest.approx(expected, rel=1e-3)


def test_reconstruction(report: Report) -> None:
    metrics = report.metrics
    assert metrics["num_reconstructions"] == 4
    assert metrics["match_rate"] == pytest.approx(2 / 4)  # NaCl2 cannot count, NaI is not NaBr
    assert metrics["match_rate_ceiling"] == pytest.approx(3 / 4)
    assert 0.0 < metrics["match_rms"] < 0.02
    assert metrics["atom_type_accuracy"] == pytest.approx(1 - 4 / (3 * 8 + 3))
    assert metrics["crystal_type_accuracy"] == pytest.approx(3 / 4)
    assert metrics["lattice_length_mae"] == metrics["lattice_angle_mae"] == 0.0
    assert 0.0 < metrics["fractional_rmsd"] < 0.03


def test_metrics_are_flat_fractions_with_errors_and_twins(report: Report) -> None:
    metrics = report.metrics
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    fractions = [name.removesuffix("_se") for name in metrics if name.endswith("_se")]
    bounded = ("validity", "uniqueness", "novelty", "accuracy", "rate")
    for name in fractions:
        if name.endswith(bounded):
            assert 0.0 <= metrics[name] <= 1.0
    twins = {name.replace("sample_", "real_", 1) for name in metrics if name.startswith("sample_")}
    assert twins <= set(metrics)


def test_table_shows_samples_beside_real_crystals(report: Report) -> None:
    lines = report.table().splitlines()
    assert lines[0] == "5 samples, 4 reference, 2 train, 4 reconstructions"
    assert lines[2].startswith("structural validity")
    assert lines[2].split()[2:] == (
        ["0.8", "+-", "0.18", "of", "5", "1", "+-", "0", "of", "4"]  # samples, then real
    )
    assert any(
        line.startswith("  fault: distance") and line.split()[-2:] == ["1", "0"] for line in lines
    )
    assert any(line.endswith(" 0.75") and "at most" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_without_train_and_reconstructions() -> None:
    report = crystal_report(SAMPLES, REFERENCE)
    assert not any("novel" in name or "match" in name for name in report.metrics)
    assert "novelty" not in report.table()


def test_no_valid_sample_at_all() -> None:
    report = crystal_report([CROWDED], REFERENCE)
    assert report.metrics["sample_validity"] == report.metrics["sample_uniqueness"] == 0.0
    assert "sample_density_wasserstein" not in report.metrics
    assert "Wasserstein, density" in report.table()  # of the real crystals


def test_uniqueness_of_real_crystals_is_that_of_as_many_as_samples() -> None:
    reference = [rock_salt(), rock_salt(), rock_salt(), rock_salt(), rock_salt("K Cl")]
    assert crystal_report(SAMPLES[:2], reference).metrics["real_uniqueness"] == 1.0
    assert crystal_report(SAMPLES, reference).metrics["real_uniqueness"] == pytest.approx(2 / 5)


def test_a_raw_cell_is_valid_as_papers_count_and_its_angles_are_a_row_of_their_own() -> None:
    sharp = np.array([[4.0, 0.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 4.0]])  # gamma 45
    samples = [crystal("Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], sharp)]
    metrics = crystal_report(samples, REFERENCE).metrics
    assert metrics["sample_validity"] == metrics["sample_structural_validity"] == 1.0
    assert metrics["sample_validity_adit"] == metrics["sample_structural_validity_adit"] == 0.0
    assert metrics["sample_num_valid"] == metrics["sample_num_unique"] == 1
    assert metrics["sample_density_wasserstein"] > 0.0


def test_empty_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one crystal in samples"):
        crystal_report([], REFERENCE)
    with pytest.raises(ValueError, match="one output per reference"):
        crystal_report(SAMPLES, REFERENCE, reconstructions=SAMPLES)


def test_one_impossible_output_leaves_the_errors_numbers() -> None:
    impossible = replace(rock_salt("K Cl"), cell=np.full((3, 3), np.nan))
    outputs = [rock_salt(), impossible, UNBALANCED, rock_salt("Na Br")]
    found = crystal_report(SAMPLES, REFERENCE, reconstructions=outputs)
    assert json.dumps(found.metrics, allow_nan=False)
    assert found.metrics["num_left_out"] == 1
    assert found.metrics["lattice_length_mae"] == 0.0
    assert "impossible, not in the errors" in found.table()

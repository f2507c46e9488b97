"""Errors of reconstructed crystals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brute
from tests.evaluation.crystals.examples import crystal, rock_salt, scaled, shifted

from openunite.evaluation.crystals.reconstruction import fractional_rmsd, reconstruction_scores
from openunite.evaluation.rates import rate

SALT = rock_salt(edge=5.0)


def test_a_perfect_reconstruction() -> None:
    found = reconstruction_scores([shifted(SALT, [0.3, 0.9, 0.55])], [SALT])
    assert found["atom_type_accuracy"].value == found["crystal_type_accuracy"].value == 1.0
    assert found["lattice_length_mae"].value == found["lattice_angle_mae"].value == 0.0
    assert found["fractional_rmsd"].value == pytest.approx(0.0, abs=1e-7)


def test_errors_of_the_cell() -> None:
    cell = np.diag([5.0, 5.0, 5.0])
    cell[1] = 5.3 * np.array([np.cos(np.radians(84.0)), np.sin(np.radians(84.0)), 0.0])
    output = crystal("Na Na Na Na Cl Cl Cl Cl", SALT.fractional, cell)
    found = reconstruction_scores([output, SALT], [SALT, SALT])
    assert found["lattice_length_mae"].value == pytest.approx(0.05)  # (0.3 / 3 + 0) / 2
    assert found["lattice_angle_mae"].value == pytest.approx(1.0)  # (6 / 3 + 0) / 2
    assert found["lattice_length_mae"].error == pytest.approx(0.05)


@pytest.mark.parametrize("cell", [np.full((3, 3), np.nan), np.zeros((3, 3)), np.diag([5.0, 5, 0])])
def test_an_impossible_cell_is_left_out_of_the_errors(cell: np.ndarray) -> None:
    bad, odd = replace(SALT, cell=cell), replace(SALT, positions=SALT.positions * np.nan)
    other = scaled(SALT, 1.06)
    found = reconstruction_scores([bad, other, odd, SALT], [SALT] * 4)
    assert found["num_left_out"].value == 2
    assert found["lattice_length_mae"].value == pytest.approx(0.15)
    assert (
        found["lattice_angle_mae"].value
        == found["fractional_rmsd"].value
        == pytest.approx(0.0, abs=1e-6)
    )
    assert found["atom_type_accuracy"].total == 32
    assert "lattice_length_mae" not in reconstruction_scores([bad], [SALT])


def test_accuracy_counts_atoms_and_whole_crystals() -> None:
    small = crystal("K Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], 4.0)
    wrong = crystal("Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], 4.0)
    found = reconstruction_scores([wrong, SALT], [small, SALT])
    atoms = found["atom_type_accuracy"]
    assert (atoms.value, atoms.total) == (9 / 10, 10)
    assert found["crystal_type_accuracy"] == rate(1, 2)


def test_fractional_rmsd_by_hand() -> None:
    first = crystal("C C", [[0, 0, 0], [0.5, 0.5, 0.5]], 4.0)
    second = crystal("C C", [[0, 0, 0], [0.5, 0.6, 0.5]], 4.0)
    assert fractional_rmsd(second, first) == pytest.approx(0.05)  # +-0.05 about the best shift
    assert fractional_rmsd(scaled(second, 3.0), first) == pytest.approx(0.05)  # no lengths in it


def test_fractional_rmsd_where_the_differences_straddle_one_half() -> None:
    """Wrapped differences 0.49 and -0.49 are 0.02 apart, and their mean, 0, the worst shift."""
    first = crystal("C C", np.zeros((2, 3)), 4.0)
    second = crystal("C C", [[0.49, 0, 0], [-0.49, 0, 0]], 4.0)
    assert fractional_rmsd(second, first) == pytest.approx(0.01)


def test_fractional_rmsd_finds_the_best_shift() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        differences = random.uniform(size=(5, 1)) * np.array([1.0, 0.0, 0.0])
        first = crystal("C C C C C", np.zeros((5, 3)), 4.0)
        second = crystal("C C C C C", differences, 4.0)

        def cost(shift: float, values: np.ndarray = differences[:, 0]) -> float:
            residual = values - shift
            return float(np.sqrt(np.square(residual - np.round(residual)).mean()))

        best = brute(lambda x: cost(x[0]), [(0.0, 1.0)], Ns=200)  # a grid, then downhill
        assert fractional_rmsd(second, first) == pytest.approx(cost(best[0]), abs=1e-5)


def test_atoms_must_correspond() -> None:
    with pytest.raises(ValueError, match=r"\(NaCl\): expected 8 atoms .* got 2"):
        reconstruction_scores([crystal("Na Cl", np.zeros((2, 3)), 4.0)], [SALT])
    with pytest.raises(ValueError, match="one output per reference"):
        reconstruction_scores([SALT], [])

"""pymatgen's matcher with CDVAE's tolerances, and what counts as a match."""

import numpy as np
import pytest
from tests.evaluation.crystals.examples import (
    cesium_chloride,
    crystal,
    noisy,
    repeated,
    rock_salt,
    scaled,
    shifted,
)

from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.matching import match_scores, rms_distances
from openunite.evaluation.rates import rate

pytest.importorskip("pymatgen.analysis.structure_matcher", reason="needs openunite[crystals]")

SALT = rock_salt()


def test_origin_supercell_and_scale_do_not_count() -> None:
    same = [shifted(SALT, [0.1, 0.7, 0.33]), repeated(SALT, 2), scaled(SALT, 1.3), SALT]
    np.testing.assert_allclose(rms_distances(same, [SALT] * 4), 0.0, atol=1e-6)


def test_another_structure_and_another_element_do_not_match() -> None:
    others = [cesium_chloride(), rock_salt("K Cl"), crystal("Na Cl", np.zeros((2, 3)), 3.0)]
    assert np.isinf(rms_distances(others, [SALT] * 3)).all()


def test_rms_is_a_distance_divided_by_the_size_of_an_atom() -> None:
    """One of two atoms moved by d: both are half d off their center, over (V / N)^(1/3)."""
    clean = crystal("Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], 4.0)
    moved = crystal("Na Cl", [[0, 0, 0], [0.5, 0.5, 0.55]], 4.0)
    expected = 0.5 * 0.05 * 4.0 / (4.0**3 / 2) ** (1 / 3)
    assert rms_distances([moved], [clean])[0] == pytest.approx(expected, rel=1e-3)


def test_a_crystal_that_pymatgen_cannot_read_does_not_match() -> None:
    flat = Structure(SALT.numbers, SALT.positions, np.diag([5.64, 5.64, 0.0]))
    strange = Structure(np.full(8, 119), SALT.positions, SALT.cell)
    assert np.isinf(rms_distances([flat, strange], [SALT, SALT])).all()


def test_only_the_judged_pairs_are_compared() -> None:
    found = rms_distances([SALT, SALT], [SALT, SALT], judged=np.array([False, True]))
    np.testing.assert_allclose(found, [np.inf, 0.0], atol=1e-6)


def test_as_many_outputs_as_references() -> None:
    with pytest.raises(ValueError, match="got 1 and 2"):
        rms_distances([SALT], [SALT, SALT])


def test_match_rates_and_their_ceiling() -> None:
    outputs = [SALT, SALT, SALT, cesium_chloride()]
    found = match_scores(
        outputs,
        [SALT] * 4,
        valid_outputs=np.array([True, False, True, True]),
        valid_references=np.array([True, True, False, True]),
    )
    assert found["match_rate"] == rate(1, 4)
    assert found["match_rate_output_valid"] == rate(2, 4)
    assert found["match_rate_ceiling"].value == 3 / 4
    assert found["match_rms"].value == pytest.approx(0.0, abs=1e-6)
    assert found["match_rms_output_valid"].value == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1, 0.2])
def test_rms_of_two_noisy_atoms(sigma: float) -> None:
    """Half of how far they moved apart, over the edge of the cube of an atom, 2.82 A."""
    cell = 2.82 * (np.ones((3, 3)) - np.eye(3))
    clean = crystal("Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], cell)
    random = np.random.default_rng(0)
    outputs = [noisy(clean, sigma, random) for _ in range(4)]
    apart = [np.linalg.norm(np.diff(each.positions - clean.positions, axis=0)) for each in outputs]
    expected = np.array(apart) / 2.0 / 2.82
    np.testing.assert_allclose(rms_distances(outputs, [clean] * 4), expected, rtol=1e-3)


def test_noise_hides_that_a_cell_is_not_primitive() -> None:
    """Eight noisy atoms against a clean cell that reduces to two: the matcher gives up."""
    output = noisy(SALT, 0.2, np.random.default_rng(0))
    assert np.isinf(rms_distances([output], [SALT])).all()

"""Densities, element counts and the distance of two samples."""

import numpy as np
import pytest
from tests.evaluation.crystals.examples import crystal, repeated, rock_salt, scaled

from openunite.evaluation.crystals.distribution import (
    densities,
    element_counts,
    wasserstein_distance,
)


def test_density_of_rock_salt() -> None:
    pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")
    salt = rock_salt(edge=5.64)
    expected = 4 * (22.98977 + 35.453) * 1.660539 / 5.64**3  # 2.164 g/cm^3
    found = densities([salt, repeated(salt, 3), scaled(salt, 2.0)])
    np.testing.assert_allclose(found, [expected, expected, expected / 8.0], rtol=2e-4)


def test_density_agrees_with_pymatgen() -> None:
    pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")
    from openunite.data.atoms.convert import to_pymatgen

    oxide = crystal("Fe Ti O O O", np.linspace(0, 0.9, 15).reshape(5, 3), [4.0, 5.0, 6.0])
    assert densities([oxide])[0] == pytest.approx(float(to_pymatgen(oxide).density), rel=1e-6)


def test_element_counts() -> None:
    assert element_counts([rock_salt(), crystal("C C", np.zeros((2, 3)), 3.0)]).tolist() == [2, 1]


def test_wasserstein_by_hand() -> None:
    assert wasserstein_distance([0.0, 1.0], [5.0, 6.0]) == pytest.approx(5.0)
    assert wasserstein_distance([2, 2, 3], [2, 3, 3]) == pytest.approx(1 / 3)
    assert wasserstein_distance([1.0], [1.0]) == 0.0
    assert wasserstein_distance([0.0, 4.0], [2.0]) == pytest.approx(2.0)


def test_wasserstein_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    for first, second in ((7, 11), (100, 3), (1, 1)):
        a, b = random.normal(size=first), random.gamma(2.0, size=second)
        assert wasserstein_distance(a, b) == pytest.approx(stats.wasserstein_distance(a, b))


def test_wasserstein_of_nothing() -> None:
    with pytest.raises(ValueError, match="got 0 and 1 values"):
        wasserstein_distance([], [1.0])

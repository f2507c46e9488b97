"""Densities and element counts."""

import numpy as np
import pytest
from tests.evaluation.crystals.examples import crystal, repeated, rock_salt, scaled

from openunite.evaluation.crystals.distribution import densities, element_counts


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

"""Fractions, means and their standard errors, by hand."""

import math

import pytest

from openunite.evaluation.measured import Measured
from openunite.evaluation.rates import average, clustered_rate, rate


def test_binomial_error() -> None:
    assert rate(20, 100) == Measured(0.2, pytest.approx(math.sqrt(0.2 * 0.8 / 100)), 100)


def test_atoms_of_one_molecule_count_as_one_draw() -> None:
    """Two molecules of two atoms, one wholly right: the error of two draws, not of four."""
    found, apart = clustered_rate([2, 0], [2, 2]), rate(2, 4)
    assert found == Measured(0.5, pytest.approx(0.5), 4)
    assert found.error is not None
    assert apart.error is not None
    assert found.error > apart.error


def test_groups_of_one_agree_with_the_binomial() -> None:
    clustered = clustered_rate([1] * 30 + [0] * 70, [1] * 100)
    assert clustered.error == pytest.approx(rate(30, 100).error, rel=0.01)


def test_nothing_counted_is_zero_rather_than_nan() -> None:
    for found in (rate(0, 0), clustered_rate([], []), clustered_rate([0, 0], [0, 0])):
        assert found == Measured(0.0, 0.0, 0)
    assert average([]) == Measured(0.0, 0.0)


def test_the_error_of_a_mean() -> None:
    assert average([3.0]) == Measured(3.0, 0.0)
    assert average([1.0, 2.0, 3.0]) == Measured(2.0, pytest.approx(1 / math.sqrt(3)))

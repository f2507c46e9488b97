"""Fractions and their standard errors, by hand."""

import math

import pytest

from openunite.evaluation.rates import Rate


def test_binomial_error() -> None:
    rate = Rate.of(20, 100)
    assert rate.value == 0.2
    assert rate.standard_error == pytest.approx(math.sqrt(0.2 * 0.8 / 100))


def test_atoms_of_one_molecule_count_as_one_draw() -> None:
    """Two molecules of two atoms, one wholly right: the error of two draws, not of four."""
    rate = Rate.clustered([2, 0], [2, 2])
    assert (rate.hits, rate.total) == (2, 4)
    assert rate.standard_error == pytest.approx(0.5)
    assert rate.standard_error > Rate.of(2, 4).standard_error


def test_groups_of_one_agree_with_the_binomial() -> None:
    hits = [1] * 30 + [0] * 70
    clustered = Rate.clustered(hits, [1] * 100)
    assert clustered.standard_error == pytest.approx(Rate.of(30, 100).standard_error, rel=0.01)


def test_nothing_counted_is_zero_rather_than_nan() -> None:
    for rate in (Rate.of(0, 0), Rate.clustered([], []), Rate.clustered([0, 0], [0, 0])):
        assert (rate.value, rate.standard_error, rate.total) == (0.0, 0.0, 0)

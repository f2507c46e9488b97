"""The straight path and its time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openunite.flow.path import MIN_GAP, flow_time, gap, interpolate, shift_time

DTYPES = [torch.float32, torch.float64]


@given(st.floats(0.01, 20.0))
def test_shifted_time_is_monotone_and_fixes_the_ends(shift: float) -> None:
    for dtype in DTYPES:
        t = torch.linspace(0.0, 1.0, 201, dtype=dtype)
        shifted = shift_time(t, shift)
        assert (shifted.diff() > 0).all()
        assert float(shifted[0]) == 0.0
        assert float(shifted[-1]) == 1.0


@given(st.floats(0.05, 20.0))
def test_shifting_back_undoes_a_shift(shift: float) -> None:
    t = torch.linspace(0.0, 1.0, 50, dtype=torch.float64)
    torch.testing.assert_close(shift_time(shift_time(t, shift), 1.0 / shift), t)


def test_shift_one_changes_nothing_and_half_moves_towards_noise() -> None:
    t = torch.linspace(0.01, 0.99, 99)
    assert torch.equal(shift_time(t, 1.0), t)
    assert (shift_time(t, 0.5) < t).all()
    assert float(shift_time(torch.tensor([0.5]), 0.5)) == pytest.approx(1 / 3)


def test_flow_times_are_a_shifted_sigmoid() -> None:
    normal = torch.tensor([-2.0, 0.0, 0.7])
    unshifted = 1.0 / (1.0 + torch.exp(-normal))
    expected = 0.5 * unshifted / (1.0 - 0.5 * unshifted)
    torch.testing.assert_close(flow_time(normal, 0.5, "logit_normal"), expected)


def test_uniform_times_are_spread_evenly_before_the_shift() -> None:
    normal = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    t = flow_time(normal, 1.0, "uniform")
    shares = torch.histc(t, bins=10, min=0.0, max=1.0) / len(t)
    assert float((shares - 0.1).abs().max()) < 0.01
    torch.testing.assert_close(flow_time(normal, 0.5, "uniform"), shift_time(t, 0.5))


def test_the_path_starts_at_noise_and_ends_at_data() -> None:
    z0, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(interpolate(z0, noise, torch.zeros(2)), noise)
    assert torch.equal(interpolate(z0, noise, torch.ones(2)), z0)


def test_each_sample_has_its_own_time() -> None:
    z0, noise = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    t = torch.tensor([0.0, 0.25, 1.0])
    assert torch.equal(interpolate(z0, noise, t), t[:, None, None].expand(3, 2, 2))


def test_the_gap_has_a_floor() -> None:
    t = torch.tensor([0.0, 0.5, 0.95, 0.99, 1.0])
    expected = torch.tensor([1.0, 0.5, 0.05, MIN_GAP, MIN_GAP])[:, None, None]
    torch.testing.assert_close(gap(t), expected)

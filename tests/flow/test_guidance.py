"""Classifier-free guidance: where it acts, and what it costs."""

import pytest
import torch
from torch import Tensor

from openunite.flow.guidance import at, guide
from openunite.flow.solvers import solve
from openunite.sampling import Sampling


def conditional(z: Tensor, t: Tensor) -> Tensor:
    return torch.sin(3.0 * z) + t[:, None, None]


def unconditional(z: Tensor, t: Tensor) -> Tensor:
    return torch.cos(z)


def forbidden(z: Tensor, t: Tensor) -> Tensor:
    raise AssertionError("the null branch was computed")


def point(t: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    return z, torch.full((2,), t, dtype=dtype)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.5, 0.99, 1.0])
def test_scale_one_is_no_guidance_bit_for_bit(t: float) -> None:
    z, time = point(t)
    assert torch.equal(guide(conditional, forbidden, 1.0)(z, time), conditional(z, time))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("interval", [(0.1, 1.0), (0.3, 0.7), (0.2, 0.6), (0.5, 0.5)])
def test_outside_the_open_interval_there_is_no_null_branch(
    interval: tuple[float, float], dtype: torch.dtype
) -> None:
    """The ends belong to the outside, in either precision."""
    guided = guide(conditional, forbidden, 3.0, interval)
    for t in (0.0, 0.05, *interval, 1.0):
        z, time = point(t, dtype)
        assert torch.equal(guided(z, time), conditional(z, time))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, 4.0])
@pytest.mark.parametrize("t", [0.11, 0.5, 0.999])
def test_inside_it_is_the_formula(scale: float, t: float) -> None:
    z, time = point(t, torch.float64)
    c, u = conditional(z, time), unconditional(z, time)
    torch.testing.assert_close(
        guide(conditional, unconditional, scale)(z, time), u + scale * (c - u)
    )


def test_several_scales_add_what_each_condition_changes() -> None:
    """c + sum_i (s_i - 1)(c - c_i), which is the formula of one condition where there is one."""
    z, time = point(0.5, torch.float64)
    c, u, v = conditional(z, time), unconditional(z, time), z**2
    branches = [unconditional, lambda z, t: z**2]
    found = guide(conditional, branches, [3.0, 0.5])(z, time)
    torch.testing.assert_close(found, c + 2.0 * (c - u) - 0.5 * (c - v))
    one, same = guide(conditional, branches[:1], [3.0]), guide(conditional, unconditional, 3.0)
    assert torch.equal(one(z, time), same(z, time))
    assert torch.equal(guide(conditional, [forbidden] * 2, [1.0, 1.0])(z, time), c)


def test_both_branches_of_one_pass_are_asked_where_guidance_acts() -> None:
    """And the conditional branch alone elsewhere."""
    asked: list[float] = []

    def both(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        asked.append(round(float(t[0]), 2))
        return conditional(z, t), unconditional(z, t)

    apart = guide(conditional, unconditional, 3.0, (0.3, 0.7))
    for scale in (1.0, 3.0):
        together = guide(conditional, forbidden, scale, (0.3, 0.7), both)
        for t in (0.0, 0.3, 0.5, 0.6, 0.7, 1.0):
            z, time = point(t)
            expected = apart(z, time) if scale == 3.0 else conditional(z, time)
            assert torch.equal(together(z, time), expected)
    assert asked == [0.5, 0.6]


@pytest.mark.parametrize("interval", [(0.5, 0.4), (-0.1, 1.0), (0.1, 1.1)])
def test_an_impossible_interval_is_refused(interval: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 <= low <= high <= 1"):
        guide(conditional, unconditional, 2.0, interval)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.0, 0.2, 0.3, 0.1 + 0.2, 0.5, 0.7, 1.0])
def test_a_time_that_is_told_acts_like_one_that_is_read(t: float, dtype: torch.dtype) -> None:
    """0.1 + 0.2 is more than 0.3 in float64, and the same in float32."""
    guided, (z, time) = guide(conditional, unconditional, 3.0, (0.3, 0.7)), point(t, dtype)
    assert torch.equal(at(guided, t)(z, time), guided(z, time))


def test_other_denoisers_are_not_told() -> None:
    assert at(conditional, 0.5) is conditional


@pytest.mark.parametrize("solver", ["euler", "heun", "multistep", "sde"])
def test_a_guided_sample_never_waits_for_the_device(solver: str) -> None:
    """The meta device has no values: to read one is an error."""
    evaluated: list[str] = []

    def branch(name: str, z: Tensor) -> Tensor:
        evaluated.append(name)
        return torch.zeros_like(z)

    guided = guide(lambda z, t: branch("c", z), lambda z, t: branch("u", z), 2.0, (0.1, 0.6))
    start = torch.empty(2, 3, 4, device="meta")
    options = {"eta": 1.0} if solver == "sde" else {}
    sampling = Sampling(solver, 4, 1.0, options=options)
    solve(guided, start, sampling, noise_sampler=lambda _: start)
    inside = {"heun": 4}.get(solver, 2)  # of t = 0, 0.25, 0.5, 0.75; Heun looks at each twice
    assert evaluated.count("u") == inside
    with pytest.raises(RuntimeError, match="meta"):
        guided(start, torch.empty(2, device="meta"))

"""Solvers on flows whose solution is known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from openunite.flow import solvers
from openunite.flow.solvers import Callback, NoiseSampler, time_grid, velocity
from openunite.sampling import Sampling

MEAN, DEVIATION = 0.7, 0.4
FIXED = ("euler", "heun", "multistep")


def solve(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    *,
    solver: str = "heun",
    num_steps: int = 50,
    shift: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    callback: Callback | None = None,
    **options: float,
) -> Tensor:
    """`solvers.solve` with the settings as keywords."""
    sampling = Sampling(solver, num_steps, shift, options=options)
    return solvers.solve(denoiser, noise, sampling, noise_sampler=noise_sampler, callback=callback)


def gaussian(z: Tensor, t: Tensor) -> Tensor:
    """E[z0 | z_t] where every latent is N(MEAN, DEVIATION^2)."""
    t = t[:, None, None]
    variance = (t * DEVIATION) ** 2 + (1 - t) ** 2
    return MEAN + t * DEVIATION**2 * (z - t * MEAN) / variance


def exact(noise: Tensor, t: float) -> Tensor:
    """Where the flow of `gaussian` carries noise by time t."""
    return t * MEAN + math.hypot(t * DEVIATION, 1 - t) * noise


def noise(batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, 2, 5, generator=torch.Generator().manual_seed(0)).to(dtype)


def error_at(solver: str, num_steps: int, time: float = 0.9) -> float:
    """Largest error at `time`, before the floor of 1 - t bends the flow."""
    reached: dict[float, Tensor] = {}
    solve(
        gaussian,
        noise(),
        solver=solver,
        num_steps=num_steps,
        callback=lambda _, t, z: reached.update({round(t, 9): z}),
    )
    return float((reached[time] - exact(noise(), time)).abs().max())


def recorded() -> tuple[Callable[[Tensor, Tensor], Tensor], list[float]]:
    times: list[float] = []

    def denoiser(z: Tensor, t: Tensor) -> Tensor:
        assert (t == t[0]).all()
        times.append(t[0].item())
        return gaussian(z, t)

    return denoiser, times


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("multistep", 2)])
@pytest.mark.parametrize("num_steps", [40, 80])
def test_order_of_convergence(solver: str, order: int, num_steps: int) -> None:
    ratio = error_at(solver, num_steps) / error_at(solver, 2 * num_steps)
    assert math.log2(ratio) == pytest.approx(order, abs=0.15)


def test_a_fine_solution_is_the_exact_one() -> None:
    assert error_at("heun", 500) < 1e-5


@pytest.mark.parametrize("shift", [0.1, 0.3, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("num_steps", [1, 7, 50])
def test_the_grid_goes_from_zero_to_one(num_steps: int, shift: float) -> None:
    grid = time_grid(num_steps, shift)
    assert len(grid) == num_steps + 1
    assert (float(grid[0]), float(grid[-1])) == (0.0, 1.0)
    assert (grid.diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("solver", FIXED)
def test_time_never_leaves_the_unit_interval(solver: str, shift: float, dtype: torch.dtype) -> None:
    denoiser, times = recorded()
    solve(denoiser, noise(dtype=dtype), solver=solver, num_steps=9, shift=shift)
    assert min(times) == 0.0
    assert max(times) < 1.0


@pytest.mark.parametrize(("solver", "per_step"), [("euler", 1), ("heun", 2), ("multistep", 1)])
def test_number_of_evaluations_none_of_them_at_1(solver: str, per_step: int) -> None:
    denoiser, times = recorded()
    calls: list[tuple[int, float, Tensor]] = []
    end = solve(denoiser, noise(), solver=solver, num_steps=8, callback=lambda *c: calls.append(c))
    assert len(times) == 7 * per_step + 1
    assert [c[0] for c in calls] == [*(per_step * (i + 1) for i in range(7)), 7 * per_step + 1]
    assert max(times) == pytest.approx(7 / 8)
    assert [c[1] for c in calls] == pytest.approx([(i + 1) / 8 for i in range(8)])
    assert torch.equal(calls[-1][2], end)


@pytest.mark.parametrize("solver", FIXED)
def test_a_sample_ignores_its_batch_mates(solver: str) -> None:
    together = solve(gaussian, noise(4), solver=solver, num_steps=5)
    for i in range(4):
        alone = solve(gaussian, noise(4)[i : i + 1], solver=solver, num_steps=5)
        assert torch.equal(together[i : i + 1], alone)


@pytest.mark.parametrize("solver", [*FIXED, "dopri5"])
def test_the_noise_is_not_overwritten(solver: str) -> None:
    if solver == "dopri5":
        pytest.importorskip("torchdiffeq")
    start = noise()
    solve(gaussian, start, solver=solver, num_steps=3)
    assert torch.equal(start, noise())


def test_dopri5_agrees_with_fine_heun() -> None:
    pytest.importorskip("torchdiffeq")
    counts: list[int] = []
    adaptive = solve(
        gaussian, noise(), solver="dopri5", callback=lambda count, t, z: counts.append(count)
    )
    # 0.009 at the paper's tolerances: the floor of 1 - t bends the flow at t = 0.95.
    fine = solve(gaussian, noise(), num_steps=2000)
    torch.testing.assert_close(adaptive, fine, rtol=0, atol=1.5e-2)
    assert counts == list(range(1, len(counts) + 1))
    assert len(counts) < 150


def test_velocity_points_at_the_prediction_and_is_bounded_near_the_end() -> None:
    z, target = torch.zeros(2, 1, 1), torch.ones(2, 1, 1)
    slope = velocity(lambda z, t: target, z, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(slope.flatten(), torch.tensor([2.0, 20.0]))


def test_an_unknown_solver_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"euler, heun, multistep, sde, dopri5, got 'rk4'"):
        solve(gaussian, noise(), solver="rk4")


@pytest.mark.parametrize("num_steps", [0, -3])
def test_a_solver_needs_steps(num_steps: int) -> None:
    with pytest.raises(ValueError, match="whole number from 1 "):
        solve(gaussian, noise(), num_steps=num_steps)


# ---- the multistep solver -------------------------------------------------------------------


def test_multistep_needs_half_of_heuns_evaluations_or_fewer() -> None:
    assert error_at("multistep", 40) < error_at("heun", 20)


@pytest.mark.parametrize("solver", FIXED)
@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_what_a_network_says_of_clean_data_does_not_matter(solver: str, shift: float) -> None:
    """No run trains the network at t = 1, and what it says there can be anything."""

    def broken(z: Tensor, t: Tensor) -> Tensor:
        return gaussian(z, t) + torch.where(t > 0.999, 100.0, 0.0)[:, None, None]

    ends = [solve(d, noise(), solver=solver, num_steps=15, shift=shift) for d in (gaussian, broken)]
    assert torch.equal(*ends)


def test_multistep_is_exact_where_the_prediction_is_a_line_in_t() -> None:
    """z0^ = a + b t: the solution by quadrature of z_s / (1 - s), equation (9)'s premise."""
    start, a, b, end = noise(), 0.3, -1.7, 0.9
    reached: dict[float, Tensor] = {}
    solve(
        lambda z, t: (a + b * t)[:, None, None].expand_as(z),
        start,
        solver="multistep",
        num_steps=10,
        callback=lambda _, t, z: reached.update({round(t, 9): z}),
    )
    times = torch.linspace(0.1, end, 200_001, dtype=torch.float64)
    grown = torch.trapezoid((a + b * times) / (1 - times) ** 2, times)
    expected = (1 - end) * (reached[0.1] / (1 - 0.1) + grown)
    torch.testing.assert_close(reached[end], expected, rtol=1e-7, atol=1e-7)


def test_multistep_ends_on_the_last_prediction() -> None:
    seen: list[Tensor] = []

    def denoiser(z: Tensor, t: Tensor) -> Tensor:
        seen.append(gaussian(z, t))
        return seen[-1]

    assert torch.equal(solve(denoiser, noise(), solver="multistep", num_steps=6), seen[-1])


# ---- the stochastic solver ------------------------------------------------------------------


def fresh(like: Tensor) -> Callable[[int], Tensor]:
    def draw(step: int) -> Tensor:
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(step)).to(like)

    return draw


def test_without_fresh_noise_the_sde_is_euler() -> None:
    start = noise()
    found: dict[str, dict[float, Tensor]] = {"euler": {}, "sde": {}}
    for solver, reached in found.items():
        solve(
            gaussian,
            start,
            solver=solver,
            num_steps=20,
            noise_sampler=fresh(start),
            callback=lambda _, t, z, reached=reached: reached.update({round(t, 9): z}),
        )
    torch.testing.assert_close(found["sde"][0.9], found["euler"][0.9])


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_fresh_noise_keeps_the_distribution(eta: float) -> None:
    start = torch.randn(20_000, 1, 1, generator=torch.Generator().manual_seed(99)).double()
    end = solve(gaussian, start, solver="sde", num_steps=200, eta=eta, noise_sampler=fresh(start))
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(end.std()) == pytest.approx(DEVIATION, abs=0.02)
    assert abs(float(torch.corrcoef(torch.stack([start, end]).flatten(1))[0, 1])) < 0.9


def test_the_sde_costs_one_evaluation_a_step_and_ends_on_the_prediction() -> None:
    denoiser, times = recorded()
    start = noise()
    end = solve(denoiser, start, solver="sde", num_steps=7, eta=0.5, noise_sampler=fresh(start))
    assert len(times) == 7
    assert max(times) < 1.0
    assert end.isfinite().all()


def test_the_sde_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"eta must be a number from 0 to 1, got 1\.5"):
        solve(gaussian, noise(), solver="sde", eta=1.5, noise_sampler=fresh(noise()))
    with pytest.raises(ValueError, match="give a noise_sampler"):
        solve(gaussian, noise(), solver="sde")


def test_each_step_of_the_sde_has_noise_of_its_own() -> None:
    """Numbered from 1: number 0 is the noise that a sample starts from. The last step has none."""
    numbers: list[int] = []

    def numbered(step: int) -> Tensor:
        numbers.append(step)
        return noise()

    solve(gaussian, noise(), solver="sde", num_steps=5, eta=1.0, noise_sampler=numbered)
    assert numbers == [1, 2, 3, 4]


def test_the_adaptive_solver_keeps_its_state_in_float64() -> None:
    """Whatever the network computes in; its first steps hang on differences near the rounding."""
    pytest.importorskip("torchdiffeq")
    types: set[tuple[torch.dtype, torch.dtype]] = set()
    asked: list[torch.dtype] = []

    def denoiser(z: Tensor, t: Tensor) -> Tensor:
        asked.append(z.dtype)
        return gaussian(z, t)

    end = solve(
        denoiser,
        noise(dtype=torch.float32),
        solver="dopri5",
        callback=lambda count, t, z: types.add((z.dtype, asked[-1])),
    )
    assert types == {(torch.float64, torch.float32)}
    assert end.dtype == torch.float32

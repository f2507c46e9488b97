"""Solvers of the sampling flow dz/dt = (z0^(z, t) - z) / max(1 - t, 0.05), t from 0 to 1.

Pure functions of a denoiser: no network, no global state. With a fixed-step solver a sample never
depends on its batch mates; the adaptive one shares its step size over the batch.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.flow.guidance import Denoiser, at
from openunite.flow.path import gap, shift_time

Solver = Literal["euler", "heun", "multistep", "sde", "dopri5"]
Fresh = Callable[[int], Tensor]  # number of a step, from 1 -> N(0, I) (B, K, C)
Callback = Callable[[int, float, Tensor], None]  # (evaluations so far, t, z_t)


def velocity(denoiser: Denoiser, z: Tensor, t: Tensor) -> Tensor:
    """Equation (6)."""
    return (denoiser(z, t) - z) / gap(t)


def time_grid(num_steps: int, shift: float = 1.0) -> Float[Tensor, " n"]:
    """num_steps + 1 times from 0 to 1; shift < 1 spends more steps near noise."""
    if num_steps < 1:
        raise ValueError(f"num_inference_steps must be at least 1, got {num_steps}")
    return shift_time(torch.linspace(0.0, 1.0, num_steps + 1, dtype=torch.float64), shift)


def solve(
    denoiser: Denoiser,
    noise: Float[Tensor, "b k c"],
    *,
    solver: str = "heun",
    num_steps: int = 50,
    shift: float = 1.0,
    eta: float = 0.0,
    fresh: Fresh | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "b k c"]:
    """Carry noise (B, K, C) at t = 0 to latents at t = 1.

    `euler` costs num_steps evaluations (order 1), `heun` 2 num_steps - 1 (order 2, the last step
    Euler's), `multistep` num_steps (order 2, from the prediction before), `sde` num_steps; none of
    them asks the denoiser about t = 1, which training hardly ever shows it. `dopri5` is the
    paper's adaptive protocol, does, and ignores num_steps and shift. `eta` and `fresh` belong to
    `sde`: see equation (8). Raises ValueError for another name, or what does not fit.
    """
    if solver == "dopri5":
        return _dopri5(denoiser, noise, callback)
    if solver not in get_args(Solver):
        raise ValueError(f"solver must be one of {', '.join(get_args(Solver))}, got {solver!r}")
    grid, z, evaluations = time_grid(num_steps, shift).tolist(), noise, 0
    if solver == "sde":
        return _sde(denoiser, noise, grid, eta, fresh, callback)
    if solver == "multistep":
        return _multistep(denoiser, noise, grid, callback)
    for now, then in pairwise(grid):
        step, t = then - now, z.new_full((len(z),), now)
        slope = velocity(at(denoiser, now), z, t)
        evaluations += 1
        if solver == "heun" and then < 1.0:
            ahead = z + step * slope
            end = velocity(at(denoiser, then), ahead, z.new_full((len(z),), then))
            slope = (slope + end) / 2
            evaluations += 1
        z = z + step * slope
        if callback is not None:
            callback(evaluations, then, z)
    return z


def _multistep(
    denoiser: Denoiser, z: Tensor, grid: list[float], callback: Callback | None
) -> Tensor:
    """Equation (9): (6) solved exactly where the prediction is a straight line in t.

    The line goes through the last two predictions, as in Adams and Bashforth's method of order 2.
    The first step has one prediction, and so has the last, which ends on it: a line drawn beyond
    the data leaves what the latent norm allows.
    """
    before: Tensor | None = None
    earlier = 0.0
    for number, (now, then) in enumerate(pairwise(grid), start=1):
        predicted = at(denoiser, now)(z, z.new_full((len(z),), now))
        remaining = (1.0 - then) / (1.0 - now)
        z = remaining * z + (1.0 - remaining) * predicted
        if before is not None and then < 1.0:
            along = then - now + (1.0 - then) * math.log(remaining)
            z = z + along / (now - earlier) * (predicted - before)
        before, earlier = predicted, now
        if callback is not None:
            callback(number, then, z)
    return z


def _sde(
    denoiser: Denoiser,
    z: Tensor,
    grid: list[float],
    eta: float,
    fresh: Fresh | None,
    callback: Callback | None,
) -> Tensor:
    """Equation (8): z_s = s z0^ + (1 - s) (sqrt(1 - r) eps^ + sqrt(r) eps), eps^ from z_t and z0^.

    Fresh noise in place of a part of the predicted one lets later steps mend earlier errors. With
    r = eta^2 (1 - (t (1 - s) / (s (1 - t)))^2), eta = 1 is ancestral sampling, and eta = 0 Euler's
    method. The step to s = 1 ends on the prediction itself.
    """
    if not 0.0 <= eta <= 1.0 or fresh is None:
        raise ValueError(f"solver 'sde' needs 0 <= eta <= 1 and a source of noise, got eta {eta}")
    for number, (now, then) in enumerate(pairwise(grid), start=1):
        predicted = at(denoiser, now)(z, z.new_full((len(z),), now))
        noise = (z - now * predicted) / (1.0 - now)
        if eta > 0.0 and then < 1.0:
            renewed = eta**2 * (1.0 - (now * (1.0 - then) / (then * (1.0 - now))) ** 2)
            noise = (1.0 - renewed) ** 0.5 * noise + renewed**0.5 * fresh(number).to(noise)
        z = then * predicted + (1.0 - then) * noise
        if callback is not None:
            callback(number, then, z)
    return z


def _dopri5(denoiser: Denoiser, noise: Tensor, callback: Callback | None) -> Tensor:
    """Adaptive Dormand-Prince, rtol 1e-3, atol 1e-6 (needs the extra `paper`)."""
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise ImportError(
            "solver 'dopri5' needs torchdiffeq: pip install 'openunite[paper]', "
            "or choose solver='heun'"
        ) from error
    evaluations = 0

    def field(t: Tensor, z: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        time = t.to(noise.dtype).expand(len(z))
        # The state stays in float64: the first step sizes hang on differences near float32's
        # rounding, and with them the whole sequence of steps.
        slope = (denoiser(z.to(noise.dtype), time).double() - z) / gap(t.expand(len(z)))
        if callback is not None:
            callback(evaluations, float(t), z)
        return slope

    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=noise.device)
    solution: Tensor = odeint(field, noise.double(), ends, method="dopri5", rtol=1e-3, atol=1e-6)
    return solution[-1].to(noise.dtype)

"""Solvers of the sampling flow dz/dt = (z0^(z, t) - z) / max(1 - t, 0.05), t from 0 to 1.

Solvers are pure functions of a denoiser. With a fixed-step solver a sample does not depend on the
others in its batch; the adaptive solver uses one step size for the whole batch.
"""

import math
from collections.abc import Callable
from importlib.metadata import EntryPoint
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.flow.guidance import Denoiser, at
from openunite.flow.path import gap, shift_time
from openunite.sampling import SOLVERS, Sampling

NoiseSampler = Callable[[int], Tensor]  # step number (from 1) -> N(0, I) (B, K, C)
Grid = list[float]  # the times of a fixed-step solver, from 0 to 1
Callback = Callable[[int, float, Tensor], None]  # (evaluations so far, t, z_t)


def velocity(denoiser: Denoiser, z: Tensor, t: Tensor) -> Tensor:
    """The right-hand side of equation (6)."""
    return (denoiser(z, t) - z) / gap(t)


def time_grid(num_steps: int, shift: float = 1.0) -> Float[Tensor, " n"]:
    """num_steps + 1 times from 0 to 1, in float64; shift < 1 spends more steps near noise."""
    return shift_time(torch.linspace(0.0, 1.0, num_steps + 1, dtype=torch.float64), shift)


def solve(
    denoiser: Denoiser,
    noise: Float[Tensor, "b k c"],
    sampling: Sampling,
    *,
    noise_sampler: NoiseSampler | None = None,
    callback: Callback | None = None,
) -> Float[Tensor, "b k c"]:
    """Integrate from noise at t = 0 to latents at t = 1, as `sampling` says.

    Guidance is part of the denoiser, see `guide`. Solvers with a fixed number of steps never call
    the denoiser at t = 1, where training has hardly any samples. Solvers that renew noise need
    `noise_sampler`. Raises ValueError for settings that do not fit.
    """
    row = sampling.row
    grid = time_grid(sampling.num_inference_steps, sampling.time_shift).tolist()
    options = {name: sampling.option(name) for name in row.options}
    solver = EntryPoint(sampling.solver, row.function, SOLVERS.group).load()
    watch = {"noise_sampler": noise_sampler, "callback": callback or (lambda *_: None)}
    latents: Tensor = solver(denoiser, noise, grid, **watch, **options)
    return latents


# Solvers: (denoiser, latents at t = 0, the times) -> latents at t = 1.


def euler(denoiser: Denoiser, z: Tensor, grid: Grid, *, callback: Callback, **_: Any) -> Tensor:
    """Euler's method: one evaluation of equation (6) per step."""
    for number, (now, then) in enumerate(pairwise(grid), start=1):
        z = z + (then - now) * velocity(at(denoiser, now), z, z.new_full((len(z),), now))
        callback(number, then, z)
    return z


def heun(denoiser: Denoiser, z: Tensor, grid: Grid, *, callback: Callback, **_: Any) -> Tensor:
    """Heun's method: the mean slope of both ends of a step; the last step is one of Euler's."""
    evaluations = 0
    for now, then in pairwise(grid):
        step = then - now
        slope = velocity(at(denoiser, now), z, z.new_full((len(z),), now))
        evaluations += 1
        if then < 1.0:
            ahead = z + step * slope
            end = velocity(at(denoiser, then), ahead, z.new_full((len(z),), then))
            slope = (slope + end) / 2
            evaluations += 1
        z = z + step * slope
        callback(evaluations, then, z)
    return z


def multistep(denoiser: Denoiser, z: Tensor, grid: Grid, *, callback: Callback, **_: Any) -> Tensor:
    """Equation (9): an exact solution of (6) if the prediction is a straight line in t.

    The line goes through the last two predictions, as in the Adams-Bashforth method of order 2.
    The first step has only one prediction. The last step ends on its prediction, because an
    extrapolation to t = 1 would violate the latent norm.
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
        callback(number, then, z)
    return z


def sde(
    denoiser: Denoiser,
    z: Tensor,
    grid: Grid,
    *,
    noise_sampler: NoiseSampler | None,
    callback: Callback,
    eta: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    """Equation (8): z_s = s z0^ + (1 - s) (sqrt(1 - r) eps^ + sqrt(r) eps), eps^ from z_t and z0^.

    Replacing a part of the predicted noise by new noise lets later steps correct earlier errors.
    With r = eta^2 (1 - (t (1 - s) / (s (1 - t)))^2), eta = 1 is ancestral sampling, and eta = 0 is
    Euler's method. `temperature` scales the new noise. The last step ends on the prediction itself.
    """
    if noise_sampler is None:
        raise ValueError("solver 'sde' renews noise: give a noise_sampler")
    for number, (now, then) in enumerate(pairwise(grid), start=1):
        predicted = at(denoiser, now)(z, z.new_full((len(z),), now))
        noise = (z - now * predicted) / (1.0 - now)
        if eta > 0.0 and then < 1.0:
            renewed = eta**2 * (1.0 - (now * (1.0 - then) / (then * (1.0 - now))) ** 2)
            new = (temperature * noise_sampler(number)).to(noise)
            noise = (1.0 - renewed) ** 0.5 * noise + renewed**0.5 * new
        z = then * predicted + (1.0 - then) * noise
        callback(number, then, z)
    return z


def dopri5(
    denoiser: Denoiser, noise: Tensor, grid: Grid, *, callback: Callback, **_: Any
) -> Tensor:
    """Adaptive Dormand-Prince, rtol 1e-3, atol 1e-6 (needs the extra `paper`); ignores `grid`."""
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
        # The state stays in float64: the first step sizes, and with them all later steps, depend on
        # differences close to the rounding error of float32.
        slope = (denoiser(z.to(noise.dtype), time).double() - z) / gap(t.expand(len(z)))
        callback(evaluations, float(t), z)
        return slope

    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=noise.device)
    solution: Tensor = odeint(field, noise.double(), ends, method="dopri5", rtol=1e-3, atol=1e-6)
    return solution[-1].to(noise.dtype)

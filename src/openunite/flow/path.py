"""The straight path from noise (t = 0) to clean latents (t = 1), and the distribution of t."""

import torch
from jaxtyping import Float
from torch import Tensor

MIN_GAP = 0.05  # lower bound of 1 - t wherever it divides, equations (5) and (6)


def interpolate(
    z0: Float[Tensor, "b k c"], noise: Float[Tensor, "b k c"], t: Float[Tensor, " b"]
) -> Float[Tensor, "b k c"]:
    """Equation (3): z_t = t z0 + (1 - t) noise."""
    t = t[:, None, None]
    return t * z0 + (1.0 - t) * noise


def shift_time(t: Float[Tensor, " b"], shift: float) -> Float[Tensor, " b"]:
    """t' = a t / (1 + (a - 1) t): a < 1 moves times towards noise, a = 1 changes nothing."""
    return shift * t / (shift * t + (1.0 - t))  # exactly 0 and 1 at the ends


def flow_time(normal: Float[Tensor, " b"], shift: float, density: str) -> Float[Tensor, " b"]:
    """Times of training from n ~ N(0, 1): "logit_normal" or "uniform", then `shift_time`."""
    times = torch.special.ndtr(normal) if density == "uniform" else torch.sigmoid(normal)
    return shift_time(times, shift)


def gap(t: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1"]:
    """The clamped remaining time max(1 - t, 0.05), shaped to divide latents (B, K, C)."""
    return (1.0 - t).clamp_min(MIN_GAP)[:, None, None]

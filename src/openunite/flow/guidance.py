"""Classifier-free guidance as a wrapper: takes two denoisers, returns one."""

from collections.abc import Callable

import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]  # (z_t (B, K, C), t (B,)) -> z0 (B, K, C)


def guide(
    conditional: Denoiser,
    unconditional: Denoiser,
    scale: float,
    interval: tuple[float, float] = (0.1, 1.0),
) -> Denoiser:
    """Equation (7): u + s (c - u) on normalized predictions, for t strictly inside `interval`.

    Outside the interval, and at scale 1, the unconditional branch is not computed.
    All samples of a batch share one t, as they do in every solver here.
    """
    low, high = interval
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(
            f"guidance interval must satisfy 0 <= low <= high <= 1, got {interval}; "
            "the paper uses (0.1, 1.0)"
        )

    def guided(z_t: Tensor, t: Tensor) -> Tensor:
        prediction = conditional(z_t, t)
        if scale == 1.0 or not bool((low < t[0]) & (t[0] < high)):  # compared in the type of t
            return prediction
        return torch.lerp(unconditional(z_t, t), prediction, scale)

    return guided

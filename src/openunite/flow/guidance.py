"""Classifier-free guidance as a wrapper: takes two denoisers, returns one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NO_GUIDANCE = 1.0  # the scale at which guidance changes nothing
Denoiser = Callable[[Tensor, Tensor], Tensor]  # (z_t (B, K, C), t (B,)) -> z0 (B, K, C)
Both = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # -> conditional, unconditional z0


@dataclass(frozen=True)
class Guided:
    """The denoiser that `guide` returns: whether it computes one branch or two depends on t."""

    conditional: Denoiser
    unconditional: Denoiser
    scale: float
    interval: tuple[float, float]
    both: Both | None = None

    def __call__(self, z_t: Tensor, t: Tensor, time: float | None = None) -> Tensor:
        """`time` is the t of the whole batch, from a caller who knows it as a number.

        Without it, it is read from `t`, and the host waits for the device.
        """
        if self.scale == NO_GUIDANCE or not self._inside(t, time):
            return self.conditional(z_t, t)
        if self.both is not None:
            prediction, null = self.both(z_t, t)
        else:
            prediction, null = self.conditional(z_t, t), self.unconditional(z_t, t)
        return torch.lerp(null, prediction, self.scale)

    def _inside(self, t: Tensor, time: float | None) -> bool:
        low, high = self.interval
        now = t[0] if time is None else torch.tensor(time, dtype=t.dtype, device="cpu")
        return bool((low < now) & (now < high))  # compared in the type of t


def guide(
    conditional: Denoiser,
    unconditional: Denoiser,
    scale: float,
    interval: tuple[float, float] = (0.1, 1.0),
    both: Both | None = None,
) -> Guided:
    """Equation (7): u + s (c - u) on normalized predictions, for t strictly inside `interval`.

    Outside the interval, and at scale 1, the unconditional branch is not computed. `both` computes
    the two in one pass, for callers to whom that is faster.
    All samples of a batch share one t, as they do in every solver here.
    """
    low, high = interval
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(
            f"guidance interval must satisfy 0 <= low <= high <= 1, got {interval}; "
            "the paper uses (0.1, 1.0)"
        )
    return Guided(conditional, unconditional, scale, interval, both)


def at(denoiser: Denoiser, time: float) -> Denoiser:
    """The same denoiser, told the t at which it will be asked, so that guidance need not look."""
    if not isinstance(denoiser, Guided):
        return denoiser
    return lambda z_t, t: denoiser(z_t, t, time)

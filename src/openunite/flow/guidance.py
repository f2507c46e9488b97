"""Classifier-free guidance: combines a conditional and an unconditional denoiser into one."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NO_GUIDANCE = 1.0  # the scale at which guidance changes nothing
Denoiser = Callable[[Tensor, Tensor], Tensor]  # (z_t (B, K, C), t (B,)) -> z0 (B, K, C)
Both = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # -> conditional, unconditional z0


@dataclass(frozen=True)
class Guided:
    """The denoiser that `guide` returns; it computes both branches only where guidance acts."""

    conditional: Denoiser
    unconditional: Denoiser
    scale: float
    interval: tuple[float, float]
    both: Both | None = None

    def __call__(self, z_t: Tensor, t: Tensor, time: float | None = None) -> Tensor:
        """Predict z0 (B, K, C); `time` is the common t of the batch, if the caller knows it.

        Without `time`, t is read back from the device, for which the host has to wait.
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
        return bool((low < now) & (now < high))  # compared in the dtype of t


def guide(
    conditional: Denoiser,
    unconditional: Denoiser,
    scale: float,
    interval: tuple[float, float] = (0.1, 1.0),
    both: Both | None = None,
) -> Guided:
    """Equation (7): u + s (c - u) on normalized predictions, for t strictly inside `interval`.

    Outside the interval, and at scale 1, the unconditional branch is not computed. `both`, if
    given, computes the two predictions in one pass. All samples of a batch must share one t, as in
    every solver here. Raises ValueError for an interval outside [0, 1].
    """
    low, high = interval
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(
            f"guidance interval must satisfy 0 <= low <= high <= 1, got {interval}; "
            "the paper uses (0.1, 1.0)"
        )
    return Guided(conditional, unconditional, scale, interval, both)


def at(denoiser: Denoiser, time: float) -> Denoiser:
    """Bind a known time to the denoiser, so that guidance need not read t back from the device."""
    if not isinstance(denoiser, Guided):
        return denoiser
    return lambda z_t, t: denoiser(z_t, t, time)

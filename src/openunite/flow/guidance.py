"""Classifier-free guidance: combines two denoisers or more into one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NO_GUIDANCE = 1.0  # the scale at which guidance changes nothing
Denoiser = Callable[[Tensor, Tensor], Tensor]  # (z_t (B, K, C), t (B,)) -> z0 (B, K, C)
Both = Callable[[Tensor, Tensor], tuple[Tensor, ...]]  # -> conditional, unconditional z0


@dataclass(frozen=True)
class Guided:
    """The denoiser that `guide` returns; other branches run only where guidance acts."""

    conditional: Denoiser
    without: Sequence[Denoiser]
    scales: Sequence[float]
    interval: tuple[float, float]
    both: Both | None = None

    def __call__(self, z_t: Tensor, t: Tensor, time: float | None = None) -> Tensor:
        """Predict z0 (B, K, C); `time` is the common t of the batch, if the caller knows it.

        Without `time`, t is read back from the device, for which the host has to wait.
        """
        if set(self.scales) <= {NO_GUIDANCE} or not self._inside(t, time):
            return self.conditional(z_t, t)
        if self.both is not None:
            prediction, *nulls = self.both(z_t, t)
        else:
            prediction, *nulls = (f(z_t, t) for f in (self.conditional, *self.without))
        guided = torch.lerp(nulls[0], prediction, self.scales[0])
        for null, scale in zip(nulls[1:], self.scales[1:], strict=True):
            guided = guided + (scale - 1.0) * (prediction - null)
        return guided

    def _inside(self, t: Tensor, time: float | None) -> bool:
        low, high = self.interval
        now = t[0] if time is None else torch.tensor(time, dtype=t.dtype, device="cpu")
        return bool((low < now) & (now < high))  # compared in the dtype of t


def guide(
    conditional: Denoiser,
    without: Denoiser | Sequence[Denoiser],
    scale: float | Sequence[float],
    interval: tuple[float, float] = (0.1, 1.0),
    both: Both | None = None,
) -> Guided:
    """Equation (7): u + s (c - u) on normalized predictions, for t strictly inside `interval`.

    With several scales it is c + sum_i (s_i - 1) (c - c_i), where c_i lacks condition i. Outside
    the interval, and at scale 1, only c is computed. `both`, if given, computes all predictions in
    one pass. All samples of a batch must share one t, as in every solver here. Raises ValueError
    for an interval outside [0, 1].
    """
    low, high = interval
    if not 0.0 <= low <= high <= 1.0:
        raise ValueError(
            f"guidance interval must satisfy 0 <= low <= high <= 1, got {interval}; "
            "the paper uses (0.1, 1.0)"
        )
    branches = [without] if callable(without) else without
    scales = scale if isinstance(scale, Sequence) else [scale]
    return Guided(conditional, branches, scales, interval, both)


def at(denoiser: Denoiser, time: float) -> Denoiser:
    """Bind a known time to the denoiser, so that guidance need not read t back from the device."""
    if not isinstance(denoiser, Guided):
        return denoiser
    return lambda z_t, t: denoiser(z_t, t, time)

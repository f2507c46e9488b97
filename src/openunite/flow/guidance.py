"""Classifier-free guidance as a wrapper: takes two denoisers or more, returns one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NO_GUIDANCE = 1.0  # the scale at which guidance changes nothing
Denoiser = Callable[[Tensor, Tensor], Tensor]  # (z_t (B, K, C), t (B,)) -> z0 (B, K, C)
Both = Callable[[Tensor, Tensor], tuple[Tensor, ...]]  # -> conditional, unconditional z0


@dataclass(frozen=True)
class Guided:
    """The denoiser that `guide` returns: whether it computes one branch or all depends on t."""

    conditional: Denoiser
    without: Sequence[Denoiser]
    scales: Sequence[float]
    interval: tuple[float, float]
    both: Both | None = None

    def __call__(self, z_t: Tensor, t: Tensor, time: float | None = None) -> Tensor:
        """`time` is the t of the whole batch, from a caller who knows it as a number.

        Without it, it is read from `t`, and the host waits for the device.
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
        return bool((low < now) & (now < high))  # compared in the type of t


def guide(
    conditional: Denoiser,
    without: Denoiser | Sequence[Denoiser],
    scale: float | Sequence[float],
    interval: tuple[float, float] = (0.1, 1.0),
    both: Both | None = None,
) -> Guided:
    """Equation (7): u + s (c - u) on normalized predictions, for t strictly inside `interval`.

    With several scales it is c + sum_i (s_i - 1) (c - c_i), where c_i lacks condition i. Outside
    the interval, and at scale 1, c alone is computed. `both` computes all branches in one pass, for
    callers to whom that is faster. All samples of a batch share one t, as in every solver here.
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
    """The same denoiser, told the t at which it will be asked, so that guidance need not look."""
    if not isinstance(denoiser, Guided):
        return denoiser
    return lambda z_t, t: denoiser(z_t, t, time)

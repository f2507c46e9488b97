"""RMSNorm with optional adaptive modulation, and the choice of norms for latents."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Modulation:
    """Shift and scale of adaLN, each (B, 1, D)."""

    shift: Tensor
    scale: Tensor


class _UnitRMS(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) with a hand-written backward: a third of the passes over memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.rsqrt(norm.square() / x.shape[-1] + eps)
        unit = x * inverse
        ctx.save_for_backward(unit, inverse)
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        unit, inverse = ctx.saved_tensors
        along = (grad * unit).mean(dim=-1, keepdim=True)
        return torch.addcmul(grad, unit, along, value=-1.0) * inverse, None


def unit_rms(x: Float[Tensor, "... d"], eps: float = 1e-6) -> Float[Tensor, "... d"]:
    """x / sqrt(mean(x^2) + eps) over the last axis, computed in float32 or better."""
    return _UnitRMS.apply(x.to(torch.promote_types(x.dtype, torch.float32)), eps)


class RMSNorm(nn.Module):
    """h = unit_rms(x) * weight; if a modulation is given, h (1 + scale) + shift."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(
        self, x: Float[Tensor, "... d"], by: Modulation | None = None
    ) -> Float[Tensor, "... d"]:
        if by is None:
            return unit_rms(x) * self.weight
        return torch.addcmul(by.shift, unit_rms(x), self.weight * (1.0 + by.scale))


def build_latent_norm(kind: str, channels: int) -> nn.Module:
    """The norm over the C channels of a latent; "layernorm" (with scale and shift) is the paper's.

    Raises ValueError for an unknown kind.
    """
    if kind == "rmsnorm":
        return RMSNorm(channels)
    if kind == "none":
        return nn.Identity()
    if kind not in ("layernorm", "layernorm_plain"):
        raise ValueError(
            f"the latent norm must be layernorm, layernorm_plain, rmsnorm or none, got {kind!r}"
        )
    return nn.LayerNorm(channels, eps=1e-5, elementwise_affine=kind == "layernorm")

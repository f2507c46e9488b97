"""The same mathematics in the plainest form: what a training step costs as the release writes it.

Written from docs/METHOD.md. Norms are separate operations in float32, modulation and rotary are
plain arithmetic, the last block computes every position, the k draws share one graph and one
backward pass, Muon takes one matrix at a time (torch.optim.Muon, bfloat16 inside), and the moving
average one tensor at a time. Attention is torch's fused one, as here. The parameters are those of
our own models, so losses and gradients can be compared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from openunite.batch import CLASS, NOTHING, Batch, Evidence
from openunite.flow.guidance import Denoiser
from openunite.flow.random import SlotRandom
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.objective import LossTerm, UniteObjective, sum_of
from openunite.training.optim import BatchedMuon, partition


class PlainEncoder(nn.Module):
    """Equations (1) and (4) on the parameters of `encoder`, operation by operation."""

    def __init__(self, encoder: GenerativeEncoder) -> None:
        super().__init__()
        self.inner, self.config = encoder, encoder.config

    def networks(self) -> tuple[GenerativeEncoder, GenerativeEncoder]:
        """As `Encoder.networks`; the objective looks up the conditions there."""
        return self.inner.networks()

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        evidence: Evidence = NOTHING,
        mask: None = None,
    ) -> Tensor:
        """As `GenerativeEncoder.forward`; without masks and intermediates."""
        model, registers = self.inner, z_t.shape[1]
        label = model.class_embedding.of(evidence.conditions.get(CLASS), len(z_t))
        c = silu(model.time_embedding(t) + label)
        x = model.register_input(z_t) + model.register_positions
        if evidence.observation is not None:
            x = torch.cat([x, model.embedder(evidence.observation)], dim=1)
        context, length = self.config.num_context_tokens, x.shape[1]
        angles = model.angles[context : context + length]
        for i, block in enumerate(model.blocks):
            if i == self.config.context_start and context:
                x = torch.cat([label[:, None] + model.context_positions, x], dim=1)
                angles = model.angles[: context + length]
            x = _block(block, x, c, angles)
        x = x[:, -length:][:, :registers]
        shift, scale = model.modulation_out(c)[:, None].chunk(2, dim=-1)
        x = _rms_norm(x, model.norm_out.weight) * (1 + scale) + shift
        with torch.autocast(x.device.type, enabled=False):
            norm: Any = model.latent_norm
            latents = model.latent_output(x.to(model.latent_output.weight.dtype))
            return norm(latents.to(norm.weight.dtype))


def _block(block: Any, x: Tensor, c: Tensor, angles: Tensor) -> Tensor:
    parts = block.modulation(c)[:, None].chunk(6, dim=-1)
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
    h = _rms_norm(x, block.norm_attention.weight) * (1 + scale_a) + shift_a
    x = x + gate_a * _attention(block.attention, h, angles)
    h = _rms_norm(x, block.norm_mlp.weight) * (1 + scale_m) + shift_m
    gate, value = linear(h, block.mlp.up.weight, block.mlp.up.bias).chunk(2, dim=-1)
    x = x + gate_m * block.mlp.down(silu(gate) * value)
    return _rms_norm(x, block.norm_block.weight)


def _attention(attention: Any, x: Tensor, angles: Tensor) -> Tensor:
    heads = attention.num_heads
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in attention.qkv(x).chunk(3, dim=-1))
    q = _rotate(_rms_norm(q, attention.q_norm), angles).to(v.dtype)
    k = _rotate(_rms_norm(k, attention.k_norm), angles).to(v.dtype)
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return attention.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    wide = x.float() if x.dtype != torch.float64 else x
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    return weight * wide.to(x.dtype)


def _rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Interleaved pairs (2i, 2i + 1) -> (-odd, even)."""
    cos, sin = (f.repeat_interleave(2, dim=-1)[:, None] for f in (angles.cos(), angles.sin()))
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack([-odd, even], dim=-1).flatten(-2) * sin


@dataclass(frozen=True)
class PlainObjective:
    """Equation (5) with all draws in one graph, handed out as one term."""

    objective: UniteObjective

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """The sum of all terms, named as the first."""
        found = list(self.objective.terms(batch, step, random))
        total = torch.stack([term.value * term.weight for term in found]).sum()
        parts = {"reconstruction": sum_of(found[0].parts)}
        yield LossTerm("total", total, 1.0, parts, found[0].latents)


class LoopedMuon(BatchedMuon):
    """Our Muon one matrix at a time: what batching alone brings."""

    def _apply(
        self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]
    ) -> None:
        for parameter, update in zip(parameters, updates, strict=True):
            super()._apply([parameter], [update], group)


def plain_muon(matrices: list[Tensor], rate: float) -> torch.optim.Optimizer:
    """torch's own: a matrix at a time, bfloat16 inside."""
    return torch.optim.Muon(
        matrices,
        lr=rate,
        weight_decay=0.0,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )


def plain_optimizers(
    model: nn.Module, muon_rate: float, adamw_rate: float, *, float32: bool = False
) -> list[torch.optim.Optimizer]:
    """Muon (torch's own, or ours in a loop in float32) and AdamW, on our partition."""
    groups = {name: [p for _, p in members] for name, members in partition(model).items()}
    matrices = groups["muon"]
    return [
        LoopedMuon(matrices, muon_rate, precision=torch.float32)
        if float32
        else plain_muon(matrices, muon_rate),
        torch.optim.AdamW(groups["adamw"], lr=adamw_rate, eps=1e-6, weight_decay=0.0),
    ]


@torch.no_grad()
def plain_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """The moving average, one tensor after the other."""
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.mul_(decay).add_(value, alpha=1.0 - decay)


def plain_guide(encoder: nn.Module, evidence: Evidence, scale: float, low: float) -> Denoiser:
    """Guidance that computes both branches in one doubled batch, at every time."""

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        second = torch.arange(2 * len(t), device=t.device) >= len(t)
        both = encoder(z_t.repeat(2, 1, 1), t.repeat(2), evidence.repeat(2).drop(second))
        conditional, unconditional = both.chunk(2)
        inside = (t > low) & (t < 1.0)
        guided = unconditional + scale * (conditional - unconditional)
        return torch.where(inside[:, None, None], guided, conditional)

    return denoiser

"""Estimated cost of a run: parameters and floating-point operations.

Operations are counted in closed form from the sizes of the matrices: matrix products only, 2 per
multiply-add, forward plus backward, where the backward pass costs twice the forward pass. Model
FLOPs utilization (MFU) is throughput x `Flops.step` / peak. It counts the architecture of the
paper, even where an implementation saves operations, so that different programs can be compared.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openunite.flow.guidance import NO_GUIDANCE, guide
from openunite.flow.solvers import solve
from openunite.modality import get_modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder, GenerativeEncoder
from openunite.training.build import build_models
from openunite.training.config import RunConfig

# VGG16's 3 x 3 convolutions: (output channels, number of poolings before it).
_VGG16 = (
    *((64, 0), (64, 0), (128, 1), (128, 1), (256, 2), (256, 2), (256, 2)),
    *((512, 3), (512, 3), (512, 3), (512, 4), (512, 4), (512, 4)),
)


@dataclass(frozen=True)
class Flops:
    """Operations per sample, forward and backward, of the parts of one optimizer step.

    `perceptual` counts VGG16 (LPIPS) on output and target, the target without a backward pass; it
    is 0 if the loss does not use VGG16.
    """

    tokenize: float
    decode: float
    flow_draw: float
    perceptual: float

    def step(self, flow_draws: int) -> float:
        """Operations for one sample in one optimizer step with `flow_draws` draws."""
        return self.tokenize + self.decode + self.perceptual + flow_draws * self.flow_draw

    def sample(self, passes: int) -> float:
        """Operations to generate one sample: `passes` of the encoder and one of the decoder."""
        return (passes * self.flow_draw + self.decode) / 3.0


def flops(config: RunConfig, *, as_released: bool = True) -> Flops:
    """Operations per sample of a run.

    `as_released` counts every token in the last block, as the architecture of the paper does (for
    MFU). Otherwise only the registers have queries and an MLP there, as this library computes it.
    """
    encoder, decoder = meta_models(config)
    tokenizer, denoiser = encoder.networks()
    seen = get_modality(config.modality, config.modality_config).vgg_input()
    perceptual = 0.0 if seen is None else 3.0 * vgg16_flops(*seen[1:])
    return Flops(
        3.0 * _encoder(tokenizer, tokenizer.embedder.num_tokens, as_released),
        3.0 * _decoder(decoder),
        3.0 * _encoder(denoiser, 0, as_released),
        perceptual,
    )


def sampling_passes(config: RunConfig) -> int | None:
    """Number of network passes per sample with the run's sampling settings; guidance needs two.

    They are counted by running the solver. The result is None for an adaptive solver.
    """
    passes, start = 0, torch.zeros(1, 1, 1)
    sampling = config.sampling
    if sampling.row.adaptive:
        return None

    def once(z_t: Tensor, t: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return z_t

    guides = config.num_classes or config.conditions
    scale = sampling.guidance_scale if guides else NO_GUIDANCE
    denoiser = guide(once, once, scale, sampling.guidance_interval)
    solve(denoiser, start, sampling, noise_sampler=lambda _: start)
    return passes


def meta_models(config: RunConfig) -> tuple[Encoder, Decoder]:
    """Encoder and decoder on the meta device: shapes without memory."""
    with torch.device("meta"):
        encoder, decoder = build_models(config)
    return encoder.to("meta"), decoder.to("meta")


def num_parameters(config: RunConfig) -> int:
    """Trainable parameters of both models."""
    return sum(p.numel() for model in meta_models(config) for p in model.parameters())


def vgg16_flops(height: int, width: int) -> float:
    """Operations of a forward pass of the convolutions of VGG16 on one color image."""
    total, before = 0.0, 3
    for channels, halved in _VGG16:
        total += 2.0 * 9 * before * channels * (height >> halved) * (width >> halved)
        before = channels
    return total


def _encoder(model: GenerativeEncoder, tokens: int, as_released: bool) -> float:
    """Operations of a forward pass with `tokens` observation tokens, equations (1) and (4)."""
    config = model.config
    registers, width = config.num_registers, config.width
    per_token = _products(model.register_input, model.latent_output)
    total = registers * per_token + (tokens * _products(model.embedder) if tokens else 0.0)
    total += _products(model.time_embedding, model.modulation_out)
    beside = model.embedder.tokens_beside if tokens else 0
    shown = 0 if tokens else sum(c.num_tokens for c in model.condition_tokens.kinds())
    block: Any
    for i, block in enumerate(model.blocks):
        entered = config.num_context_tokens if i >= config.context_start else 0
        keys = registers + beside + entered + shown
        queries = keys if as_released or i < len(model.blocks) - 1 else registers
        total += _products(block.modulation) + queries * _products(block.attention.out, block.mlp)
        total += (queries + 2 * keys) / 3 * _products(block.attention.qkv)
        total += 4.0 * queries * keys * width
    return total


def _decoder(model: Decoder) -> float:
    """Operations of a forward pass, equation (2)."""
    registers, outputs = model.config.num_registers, model.head.num_tokens
    length = 1 + registers + (0 if model.query_tokens is None else outputs)
    total = registers * _products(model.widen, model.latent_input)
    total += outputs * _products(model.head, ndims=(2,))
    total += model.head.num_places * _products(model.head, ndims=(4,))
    for block in model.blocks:
        total += length * _products(block) + 4.0 * length**2 * model.config.width
    return total


def _products(*modules: nn.Module, ndims: tuple[int, ...] = (2, 4)) -> float:
    """Operations per token of all matrices (and convolutions seen as matrices) in `modules`."""
    parameters = (p for module in modules for p in module.parameters())
    return 2.0 * sum(p.numel() for p in parameters if p.ndim in ndims)

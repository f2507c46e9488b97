"""Standardization of latents between two stages: mean 0 and std 1."""

from typing import Any

import torch
from torch import nn

from openunite.baselines.encoders import PosteriorEncoder
from openunite.baselines.objectives import BaselineObjective, draw_latents
from openunite.batch import Batch
from openunite.flow.random import SlotRandom


@torch.no_grad()
def standardize(objective: BaselineObjective, batch: Batch, random: SlotRandom) -> None:
    """Change the weights so that every channel of the latents of `batch` has mean 0 and std 1.

    Latent diffusion divides latents by their std before the second stage (Rombach et al., 2022).
    Here shift and scale are folded into the last layer of the tokenizer and the first layer of the
    decoder, so that reconstructions do not change. If the latent norm has no bias (rmsnorm), the
    mean stays as it is; if it has no parameters (layernorm_plain), nothing changes.
    """
    encoder, decoder = objective.encoder, objective.decoder
    z0 = draw_latents(objective.unite, objective.modality.prepare(batch, None), random)
    mask = batch.mask
    z0 = z0.flatten(0, 1) if mask is None else z0[mask]
    mean, deviation = z0.mean(dim=0), z0.std(dim=0)
    (tokenizer, _), channels = encoder.networks(), len(mean)
    last: Any = tokenizer.latent_norm
    if isinstance(last, nn.Identity):
        last = tokenizer.latent_output
    if getattr(last, "weight", None) is None:
        return
    bias: Any = getattr(last, "bias", None)
    if bias is None:
        mean = torch.zeros_like(mean)
    else:
        bias[:channels] = (bias[:channels] - mean) / deviation
    if isinstance(encoder, PosteriorEncoder):
        bias[channels:] -= 2.0 * deviation.log()  # log variances come after the means
    last.weight[:channels] /= deviation.reshape(-1, *[1] * (last.weight.ndim - 1))
    first: Any = decoder.latent_input if isinstance(decoder.widen, nn.Identity) else decoder.widen
    first.bias += first.weight @ mean
    first.weight *= deviation

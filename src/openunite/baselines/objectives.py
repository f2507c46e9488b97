"""Objectives of the baselines that UNITE is compared with.

Each uses the networks, draws and settings of a `UniteObjective`. Separate weights trained in one
stage need no objective of their own: they are `UniteObjective` with a `SeparateEncoder`. Two stages
are two runs, an autoencoder and then a denoiser on its latents.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.baselines.encoders import PosteriorEncoder
from openunite.batch import Batch, Evidence
from openunite.flow.random import SlotRandom, Stream
from openunite.modality import Modality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.objective import LossTerm, UniteObjective, sum_of


@dataclass(frozen=True)
class BaselineObjective(ABC):
    """Another loss for the networks of `unite`."""

    unite: UniteObjective

    @abstractmethod
    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield the terms of the loss; no two of them share a graph."""

    def weights(self, step: float) -> dict[str, float]:
        """The loss weights that change during a run, by the names used in the log."""
        return {}

    @property
    def encoder(self) -> Encoder:
        return self.unite.encoder

    @property
    def decoder(self) -> Decoder:
        return self.unite.decoder

    @property
    def modality(self) -> Modality:
        return self.unite.modality


@dataclass(frozen=True)
class ThroughLatentsObjective(BaselineObjective):
    """Equation (5) without the stop-gradient: the flow loss also trains the tokenizing pass."""

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield one term, because all draws share the graph of z0."""
        unite = self.unite
        batch = unite.modality.prepare(batch, random)
        z0 = unite.tokenize(batch, random)
        output = unite.decoder(unite.perturb(z0, batch, random), batch.mask)
        parts = unite.modality.reconstruction_losses(output, batch)
        reconstruction = sum_of(parts)
        flow = unite.flow_loss(z0, batch, random, range(unite.flow_draws))
        total = reconstruction + unite.flow_weight_at(step) * flow
        shown = {"reconstruction": reconstruction, "flow": flow, **parts}
        yield LossTerm("total", total, 1.0, shown, z0.detach())

    def weights(self, step: float) -> dict[str, float]:
        """The weights of `UniteObjective`."""
        return self.unite.weights(step)


@dataclass(frozen=True)
class AutoencoderObjective(BaselineObjective):
    """The first of two stages: reconstruction alone."""

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield the reconstruction term of UNITE."""
        yield next(self.unite.terms(batch, step, random))


@dataclass(frozen=True)
class DenoiserObjective(BaselineObjective):
    """The second of two stages: the flow loss alone, on latents of a frozen tokenizer."""

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield the flow terms of UNITE with weight 1: no other loss competes with them."""
        unite = replace(self.unite, flow_weight=1.0, flow_ramp_steps=0)
        batch = unite.modality.prepare(batch, random)
        with torch.no_grad():
            target = draw_latents(unite, batch, random)
        for i, term in enumerate(unite.flow_terms(target, batch, step, random)):
            yield replace(term, latents=None if i else target)


@dataclass(frozen=True)
class PosteriorAutoencoderObjective(BaselineObjective):
    """The first stage of a KL-VAE: reconstruction from a posterior sample + w KL(q || N(0, I)).

    The KL divergence is a mean over valid latents and channels, like the reconstruction loss.
    """

    kl_weight: float = 1e-3

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield one term; the posterior sample replaces the reconstruction noise."""
        unite = self.unite
        batch = unite.modality.prepare(batch, random)
        mask = batch.mask
        mean, log_variance = _posterior(unite, batch, random)
        z0 = _sample(unite, mean, log_variance, batch, random)
        parts = unite.modality.reconstruction_losses(unite.decoder(z0, mask), batch)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean(dim=2)
        divergence = kl.mean() if mask is None else kl[mask].mean()
        reconstruction = sum_of(parts)
        shown = {"reconstruction": reconstruction, "kl": divergence, **parts}
        total = reconstruction + self.kl_weight * divergence
        yield LossTerm("total", total, 1.0, shown, z0.detach())


def draw_latents(unite: UniteObjective, batch: Batch, random: SlotRandom) -> Float[Tensor, "b k c"]:
    """Target latents (B, K, C) of the denoiser: the tokenizer's, or samples of its posterior."""
    if isinstance(unite.encoder, PosteriorEncoder):
        return _sample(unite, *_posterior(unite, batch, random), batch, random)
    return unite.tokenize(batch, random)


def _posterior(
    unite: UniteObjective, batch: Batch, random: SlotRandom
) -> tuple[Float[Tensor, "b k c"], Float[Tensor, "b k c"]]:
    """Mean and log variance (B, K, C) of the posterior, with the inputs of equation (1)."""
    encoder = unite.encoder
    assert isinstance(encoder, PosteriorEncoder)
    noise = unite.noise(Stream.REGISTERS, random, batch)
    t = unite.tokenize_time * random.uniform(Stream.TOKENIZE_TIME)
    return encoder.posterior(noise, t, Evidence(observation=batch.data), batch.mask)


def _sample(
    unite: UniteObjective,
    mean: Float[Tensor, "b k c"],
    log_variance: Float[Tensor, "b k c"],
    batch: Batch,
    random: SlotRandom,
) -> Float[Tensor, "b k c"]:
    noise = unite.noise(Stream.POSTERIOR, random, batch)
    return mean + (0.5 * log_variance).exp() * noise

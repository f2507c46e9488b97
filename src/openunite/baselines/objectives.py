"""Objectives of the baselines: what UNITE is compared with, in its own terms.

Separate weights in one stage need no objective of their own: that is `UniteObjective` with a
`SeparateEncoder`. Two stages are two runs, an autoencoder and then a denoiser on its latents.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.baselines.encoders import PosteriorEncoder
from openunite.batch import Batch, Evidence
from openunite.flow.random import SlotRandom, Stream
from openunite.objective import LossTerm, UniteObjective, sum_of


@dataclass(frozen=True)
class ThroughLatentsObjective(UniteObjective):
    """Equation (5) without the stop-gradient: the flow loss also trains the tokenizing pass."""

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """One term, for all draws share the graph of z0."""
        batch = self.modality.prepare(batch, random)
        z0 = self.tokenize(batch, random)
        output = self.decoder(self.perturb(z0, batch, random), batch.mask)
        parts = self.modality.reconstruction_losses(output, batch)
        reconstruction = sum_of(parts)
        flow = self.flow_loss(z0, batch, random, range(self.flow_draws))
        total = reconstruction + self.flow_weight_at(step) * flow
        shown = {"reconstruction": reconstruction, "flow": flow, **parts}
        yield LossTerm("total", total, 1.0, shown, z0.detach())


@dataclass(frozen=True)
class AutoencoderObjective(UniteObjective):
    """The first of two stages: reconstruction alone."""

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """The first term of UNITE."""
        yield next(super().terms(batch, step, random))


@dataclass(frozen=True)
class DenoiserObjective(UniteObjective):
    """The second of two stages: the flow loss on latents of a frozen tokenizer."""

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """The flow terms of UNITE."""
        batch = self.modality.prepare(batch, random)
        with torch.no_grad():
            target = self.tokenize(batch, random)
        for i, term in enumerate(self.flow_terms(target, batch, step, random)):
            yield replace(term, latents=None if i else target)

    def flow_weight_at(self, step: int) -> float:
        """Nothing competes with the flow loss."""
        return 1.0


@dataclass(frozen=True)
class PosteriorAutoencoderObjective(UniteObjective):
    """The first stage of a KL-VAE: reconstruction of a posterior sample, and w KL(q || N(0, I)).

    The KL divergence is a mean over valid latents and channels, as the reconstruction loss is one.
    """

    kl_weight: float = 1e-3

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """One term; no reconstruction noise besides the posterior's own."""
        batch = self.modality.prepare(batch, random)
        mask = batch.mask
        mean, log_variance = _posterior(self, batch, random)
        z0 = _sampled(self, mean, log_variance, batch, random)
        parts = self.modality.reconstruction_losses(self.decoder(z0, mask), batch)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean(dim=2)
        divergence = kl.mean() if mask is None else kl[mask].mean()
        reconstruction = sum_of(parts)
        shown = {"reconstruction": reconstruction, "kl": divergence, **parts}
        total = reconstruction + self.kl_weight * divergence
        yield LossTerm("total", total, 1.0, shown, z0.detach())


@dataclass(frozen=True)
class PosteriorDenoiserObjective(DenoiserObjective):
    """The second stage of a KL-VAE: the flow loss on samples of the posterior."""

    def tokenize(self, batch: Batch, random: SlotRandom) -> Float[Tensor, "b k c"]:
        """A sample of the posterior instead of its mean."""
        return _sampled(self, *_posterior(self, batch, random), batch, random)


def _posterior(
    objective: UniteObjective, batch: Batch, random: SlotRandom
) -> tuple[Float[Tensor, "b k c"], Float[Tensor, "b k c"]]:
    """Equation (1) up to the sampling: mean and log variance."""
    encoder = objective.encoder
    assert isinstance(encoder, PosteriorEncoder)
    noise = objective.noise(Stream.REGISTERS, random, batch)
    t = objective.tokenize_time * random.uniform(Stream.TOKENIZE_TIME)
    return encoder.posterior(noise, t, Evidence(observation=batch.data), batch.mask)


def _sampled(
    objective: UniteObjective,
    mean: Float[Tensor, "b k c"],
    log_variance: Float[Tensor, "b k c"],
    batch: Batch,
    random: SlotRandom,
) -> Float[Tensor, "b k c"]:
    noise = objective.noise(Stream.POSTERIOR, random, batch)
    return mean + (0.5 * log_variance).exp() * noise

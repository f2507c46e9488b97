"""How far the prediction moves when the value of a condition is swapped."""

from dataclasses import dataclass

import torch
from torch import Tensor

from openunite.batch import Batch, Evidence, Given
from openunite.flow.path import interpolate
from openunite.flow.random import seeded_normal
from openunite.models.generative_encoder import Encoder

ASKED_AT = 0.1  # at t = 0 the network takes any evidence for a whole observation
IGNORED = 0.05  # a condition with less effect than this is ignored by the network


@dataclass(frozen=True)
class ConditionEffect:
    """Mean distances of predictions: another value with the same noise, and other noise."""

    name: str
    by_value: float
    by_noise: float

    @property
    def ratio(self) -> float:
        """How far another value moves the prediction, in units of what other noise does."""
        return self.by_value / max(self.by_noise, 1e-12)

    def __str__(self) -> str:
        text = f"condition {self.name}: another value moves the prediction {self.ratio:.2f} times "
        text += "as far as other noise"
        if self.ratio >= IGNORED:
            return text
        return f"{text}; the network ignores it: train longer, or check its column"


@torch.no_grad()
def condition_effect(encoder: Encoder, batch: Batch, name: str, seed: int = 0) -> ConditionEffect:
    """The effect of a condition over the samples of a batch that have it.

    Nothing but this condition is shown, at t = 0.1. ValueError where less than two samples have it.
    """
    given = batch.conditions[name]
    rows = given.known.nonzero()[:, 0]
    if len(rows) < 2:
        raise ValueError(f"condition {name}: expected at least 2 samples that have it")
    values = given.values[rows]
    mask = None if batch.mask is None else batch.mask[rows]
    shape = encoder.config.num_registers, encoder.config.latent_channels
    seeds = torch.arange(len(rows)) + seed
    count = shape[0] if mask is None else mask.shape[1]

    def predict(values: Tensor, seeds: Tensor) -> Tensor:
        noise = seeded_normal(seeds, *shape)[:, :count].to(values.device)
        start = encoder(noise, noise.new_zeros(len(noise)), Evidence(), mask)
        t = noise.new_full((len(noise),), ASKED_AT)
        evidence = Evidence({name: Given.of_all(values)})
        return encoder(interpolate(start, noise, t), t, evidence, mask)

    def distance(one: Tensor, other: Tensor) -> float:
        apart = (one - other).square().mean(dim=2).sqrt()
        return float(apart.mean() if mask is None else apart[mask].mean())

    here = predict(values, seeds)
    swapped = distance(here, predict(values.roll(1, 0), seeds))
    return ConditionEffect(name, swapped, distance(here, predict(values, seeds + len(rows))))


def effects(encoder: Encoder, batch: Batch, device: torch.device) -> list[ConditionEffect]:
    """The effect of each condition of a batch beside the class, the encoder in evaluation mode."""
    training = encoder.training
    encoder.eval()
    _, denoiser = encoder.networks()
    there = batch.to(device)
    names = [name for name in there.conditions if name in denoiser.condition_tokens]
    known = [name for name in names if int(there.conditions[name].known.sum()) > 1]
    found = [condition_effect(encoder, there, name) for name in known]
    encoder.train(training)
    return found

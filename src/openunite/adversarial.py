"""Sharper decoding afterwards: the decoder against a discriminator, the encoder frozen.

The discriminator starts from the Generative Encoder and looks at images as the encoder does. The
decoder's term goes through it without training it, the discriminator's term sees outputs detached:
both go into one optimizer step, and the trainer needs to know nothing of it.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openunite.flow.random import SlotRandom, seeded_normal
from openunite.modalities.base import Batch
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.objective import LossTerm, UniteObjective, sum_of


class Discriminator(nn.Module):
    """A copy of the tokenizing network with one score per latent, from fixed register noise."""

    noise: Tensor

    def __init__(self, encoder: GenerativeEncoder) -> None:
        super().__init__()
        tokenizer: Any = getattr(encoder, "tokenizer", encoder)
        self.backbone = copy.deepcopy(tokenizer)
        self.backbone.requires_grad_(True)
        size = tokenizer.config
        self.head = nn.Linear(size.latent_channels, 1)
        with torch.no_grad():  # not from torch's generator: a run is a function of its seed
            self.head.weight.fill_(0.0)
            self.head.bias.fill_(0.0)
        noise = seeded_normal(torch.tensor([0]), size.num_registers, size.latent_channels)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Positive for real images, negative for outputs of the decoder."""
        batch = len(images)
        t = images.new_zeros(batch)
        latents = self.backbone(self.noise.expand(batch, -1, -1), t, None, images)
        return self.head(latents).squeeze(2)


@dataclass(frozen=True)
class AdversarialDecoderObjective(UniteObjective):
    """Reconstruction plus w (-score of the output), and the discriminator's hinge loss.

    Lim and Ye, "Geometric GAN", 2017. w rises from 0, as the flow weight does in UNITE, so that the
    discriminator learns first.
    """

    discriminator: Discriminator = field(kw_only=True)
    adversarial_weight: float = 0.1

    @property
    def companions(self) -> dict[str, nn.Module]:
        """What is trained along with encoder and decoder."""
        return {"discriminator": self.discriminator}

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """The decoder's term, then the discriminator's; they share no graph."""
        batch = self.modality.prepare(batch, random)
        with torch.no_grad():
            z0 = self.tokenize(batch, random)
            given = self.perturb(z0, batch, random)
        output = self.decoder(given)
        parts = self.modality.reconstruction_losses(output, batch)
        untrained = {n: p.detach() for n, p in self.discriminator.named_parameters()}
        score = torch.func.functional_call(self.discriminator, untrained, (output,)).mean()
        reconstruction = sum_of(parts)
        total = reconstruction - self.flow_weight_at(step) * score
        shown = {"reconstruction": reconstruction, "score": score, **parts}
        yield LossTerm("decoder", total, 1.0, shown, z0)
        real, fake = self.discriminator(batch["data"]), self.discriminator(output.detach())
        hinge = (1.0 - real).clamp_min(0.0).mean() + (1.0 + fake).clamp_min(0.0).mean()
        yield LossTerm("discriminator", hinge, 1.0, {})

    def flow_weight_at(self, step: int) -> float:
        """The weight w of the score."""
        rising = step < self.flow_ramp_steps
        return self.adversarial_weight * (step / self.flow_ramp_steps if rising else 1.0)

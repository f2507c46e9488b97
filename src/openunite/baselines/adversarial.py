"""Adversarial fine-tuning of the decoder of a trained run, with the encoder frozen.

The discriminator starts as a copy of the Generative Encoder and reads images as the encoder does.
The decoder's term does not train it, and its own term uses detached outputs; both are terms of one
optimizer step, so the trainer needs no code for it.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from openunite.baselines.objectives import BaselineObjective
from openunite.batch import Batch, Evidence
from openunite.flow.random import SlotRandom, seeded_normal
from openunite.models.generative_encoder import Encoder
from openunite.objective import LossTerm, UniteObjective, sum_of


class Discriminator(nn.Module):
    """A copy of the tokenizing network, with fixed register noise and one score per latent."""

    noise: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        tokenizer, _ = encoder.networks()
        self.backbone = copy.deepcopy(tokenizer)
        self.backbone.requires_grad_(True)
        size = tokenizer.config
        self.head = nn.Linear(size.latent_channels, 1)
        noise = seeded_normal(torch.tensor([1]), size.latent_channels)
        with torch.no_grad():  # seeded, so that runs repeat
            self.head.weight.copy_(noise / size.latent_channels**0.5)
            self.head.bias.zero_()
        noise = seeded_normal(torch.tensor([0]), size.num_registers, size.latent_channels)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Scores (B, K): trained to be positive for real images, negative for decoder outputs."""
        batch = len(images)
        t = images.new_zeros(batch)
        latents = self.backbone(self.noise.expand(batch, -1, -1), t, Evidence(observation=images))
        return self.head(latents).squeeze(2)


@dataclass(frozen=True)
class AdversarialDecoderObjective(BaselineObjective):
    """Reconstruction, the discriminator's score of the output, and the discriminator's hinge loss.

    For each image, the gradient of the score by pixels is scaled to w times the norm of the
    gradient of the reconstruction loss. This is the adaptive weight of Esser et al. ("Taming
    Transformers", 2021) per image, so that results do not depend on micro-batches. Until step
    `flow_ramp_steps` w is 0: the discriminator learns first. Hinge loss: Lim and Ye, "Geometric
    GAN", 2017.
    """

    discriminator: Discriminator
    adversarial_weight: float = 0.1

    @property
    def companions(self) -> dict[str, nn.Module]:
        """Further modules to train and to save in checkpoints."""
        return {"discriminator": self.discriminator}

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]:
        """Yield the decoder's term, then the discriminator's; they share no graph."""
        unite = self.unite
        batch = unite.modality.prepare(batch, random)
        with torch.no_grad():
            z0 = unite.tokenize(batch, random)
            given = unite.perturb(z0, batch, random)
        output = unite.decoder(given)
        parts = unite.modality.reconstruction_losses(output, batch)
        reconstruction = sum_of(parts)
        score, against, uphill = self._score(output, reconstruction)
        # The gradient of this product with respect to `output` trains; its value has no meaning.
        pull = (output * (against - self.weight_at(step) * uphill)).sum()
        total = reconstruction.detach() + pull - pull.detach()
        shown = {"reconstruction": reconstruction, "score": score, **parts}
        yield LossTerm("decoder", total, 1.0, shown, z0, unite.decoder)
        real, fake = self.discriminator(batch.data), self.discriminator(output.detach())
        hinge = (1.0 - real).clamp_min(0.0).mean() + (1.0 + fake).clamp_min(0.0).mean()
        yield LossTerm("discriminator", hinge, 1.0, {})

    def _score(
        self, output: Float[Tensor, "b c h w"], reconstruction: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Mean score; pixel gradients of reconstruction and (scaled to its norm) of the score."""
        pixels = output.detach().requires_grad_()
        score = self.discriminator(pixels).mean(dim=1)
        (uphill,) = torch.autograd.grad(score.sum(), pixels)
        (against,) = torch.autograd.grad(reconstruction, output)
        size, wanted = (g.flatten(1).norm(dim=1)[:, None, None, None] for g in (uphill, against))
        return score.detach().mean(), against, uphill * wanted / size.clamp_min(1e-12)

    def weight_at(self, step: float) -> float:
        """The weight w of the score at a step."""
        return self.adversarial_weight if step >= self.unite.flow_ramp_steps else 0.0

    def weights(self, step: float) -> dict[str, float]:
        """The weight w, the only one that changes during a run."""
        return {"adversarial_weight": self.weight_at(step)}


def adversarial_decoder(
    unite: UniteObjective, adversarial_weight: float
) -> AdversarialDecoderObjective:
    """Build the objective with a new discriminator."""
    return AdversarialDecoderObjective(unite, Discriminator(unite.encoder), adversarial_weight)

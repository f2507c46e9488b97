"""Sharper decoding afterwards: the decoder against a discriminator, the encoder frozen.

The discriminator starts from the Generative Encoder and looks at images as the encoder does. The
decoder's term does not train it, and its own term sees outputs detached: both go into one optimizer
step, and the trainer knows nothing of it.
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
    """A copy of the tokenizing network with one score per latent, from fixed register noise."""

    noise: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        tokenizer, _ = encoder.networks()
        self.backbone = copy.deepcopy(tokenizer)
        self.backbone.requires_grad_(True)
        size = tokenizer.config
        self.head = nn.Linear(size.latent_channels, 1)
        noise = seeded_normal(torch.tensor([1]), size.latent_channels)
        with torch.no_grad():  # not from torch's generator: a run is a function of its seed
            self.head.weight.copy_(noise / size.latent_channels**0.5)
            self.head.bias.zero_()
        noise = seeded_normal(torch.tensor([0]), size.num_registers, size.latent_channels)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Positive for real images, negative for outputs of the decoder."""
        batch = len(images)
        t = images.new_zeros(batch)
        latents = self.backbone(self.noise.expand(batch, -1, -1), t, Evidence(observation=images))
        return self.head(latents).squeeze(2)


@dataclass(frozen=True)
class AdversarialDecoderObjective(BaselineObjective):
    """Reconstruction, the discriminator's score of the output, and the discriminator's hinge loss.

    Per image the gradient of the score with respect to pixels gets the norm of that of the
    reconstruction, times w: the adaptive weight of Esser et al. ("Taming Transformers", 2021), for
    one image at a time, so that batches can be cut anywhere. Until step `flow_ramp_steps` w is 0:
    the discriminator learns first. Hinge loss: Lim and Ye, "Geometric GAN", 2017.
    """

    discriminator: Discriminator
    adversarial_weight: float = 0.1

    @property
    def companions(self) -> dict[str, nn.Module]:
        """What is trained along with encoder and decoder."""
        return {"discriminator": self.discriminator}

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        """The decoder's term, then the discriminator's; they share no graph."""
        unite = self.unite
        batch = unite.modality.prepare(batch, random)
        with torch.no_grad():
            z0 = unite.tokenize(batch, random)
            given = unite.perturb(z0, batch, random)
        output = unite.decoder(given)
        parts = unite.modality.reconstruction_losses(output, batch)
        reconstruction = sum_of(parts)
        score, against, uphill = self._score(output, reconstruction)
        # The gradient of this product by the output is what trains; its value means nothing.
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
        """Mean score; gradients by pixels of the reconstruction, and of the score at its norm."""
        pixels = output.detach().requires_grad_()
        score = self.discriminator(pixels).mean(dim=1)
        (uphill,) = torch.autograd.grad(score.sum(), pixels)
        (against,) = torch.autograd.grad(reconstruction, output)
        size, wanted = (g.flatten(1).norm(dim=1)[:, None, None, None] for g in (uphill, against))
        return score.detach().mean(), against, uphill * wanted / size.clamp_min(1e-12)

    def weight_at(self, step: int) -> float:
        """The weight w of the score, 0 at first."""
        return self.adversarial_weight if step >= self.unite.flow_ramp_steps else 0.0

    def weights(self, step: int) -> dict[str, float]:
        """Only w changes during a run."""
        return {"adversarial_weight": self.weight_at(step)}


def adversarial_decoder(
    unite: UniteObjective, adversarial_weight: float
) -> AdversarialDecoderObjective:
    """The objective with a new discriminator."""
    return AdversarialDecoderObjective(unite, Discriminator(unite.encoder), adversarial_weight)

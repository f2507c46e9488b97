"""Encoders of the baselines: a second network for tokenizing, plain or with a posterior (KL-VAE).

Both hold two Generative Encoders, one that tokenizes and one that denoises. They are called as
the shared encoder is, so objectives, trainer and pipelines need not know which they have.
"""

from functools import wraps
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor

from openunite.batch import NOTHING, Evidence
from openunite.models.generative_encoder import Encoder, GenerativeEncoder


class TwoNetworks(Encoder):
    """Holds a `tokenizer` and a `denoiser`; the denoiser sees no observation and embeds none."""

    tokenizer: GenerativeEncoder
    denoiser: GenerativeEncoder

    def networks(self) -> tuple[GenerativeEncoder, GenerativeEncoder]:
        """The tokenizer and the denoiser."""
        return self.tokenizer, self.denoiser


class SeparateEncoder(TwoNetworks):
    """Separate weights: two Generative Encoders of one size."""

    @register_to_config
    @wraps(GenerativeEncoder.__init__)  # diffusers reads the signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.denoiser = _without_embedder(GenerativeEncoder(*args, **kwargs))
        self.tokenizer = GenerativeEncoder.from_config(self.config, conditions=None)

    def forward(
        self,
        z_t: Float[Tensor, "b k c"],
        t: Float[Tensor, " b"],
        evidence: Evidence = NOTHING,
        mask: Bool[Tensor, "b k"] | None = None,
        intermediates: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "b k c"]:
        """Equation (1) by the tokenizer, equation (4) by the denoiser."""
        network = self.denoiser if evidence.observation is None else self.tokenizer
        return network(z_t, t, evidence, mask, intermediates)


class PosteriorEncoder(TwoNetworks):
    """The tokenizer of a KL-VAE: a mean and a log variance per latent, no norm over the channels.

    Called with an observation it returns the mean; `posterior` gives both. Built with
    `latent_norm_kind` "none": the KL term, not a norm, bounds the latents.
    """

    @register_to_config
    @wraps(GenerativeEncoder.__init__)  # diffusers reads the signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.denoiser = _without_embedder(GenerativeEncoder(*args, **kwargs))
        twice = {"latent_channels": 2 * self.config.latent_channels, "conditions": None}
        self.tokenizer = GenerativeEncoder.from_config(self.config, **twice)

    def forward(
        self,
        z_t: Float[Tensor, "b k c"],
        t: Float[Tensor, " b"],
        evidence: Evidence = NOTHING,
        mask: Bool[Tensor, "b k"] | None = None,
        intermediates: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "b k c"]:
        """The posterior's mean, or equation (4) by the denoiser.

        The tokenizer's intermediates have 2 C channels and are not handed out.
        """
        if evidence.observation is None:
            return self.denoiser(z_t, t, evidence, mask, intermediates)
        return self.posterior(z_t, t, evidence, mask)[0]

    def posterior(
        self,
        z_t: Float[Tensor, "b k c"],
        t: Float[Tensor, " b"],
        evidence: Evidence,
        mask: Bool[Tensor, "b k"] | None = None,
    ) -> tuple[Float[Tensor, "b k c"], Float[Tensor, "b k c"]]:
        """Mean and log variance, the latter in [-30, 20] (Rombach et al., 2022)."""
        twice = torch.cat([z_t, z_t], dim=2)  # the tokenizer has 2 C channels on both ends
        mean, log_variance = self.tokenizer(twice, t, evidence, mask).chunk(2, dim=2)
        return mean, log_variance.clamp(-30.0, 20.0)


def _without_embedder(network: GenerativeEncoder) -> GenerativeEncoder:
    """The same network for registers alone."""
    del network.embedder
    return network


ENCODERS: dict[str, type[Encoder]] = {
    "shared": GenerativeEncoder,
    "separate": SeparateEncoder,
    "posterior": PosteriorEncoder,
}

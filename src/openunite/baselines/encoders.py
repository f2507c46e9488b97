"""Encoders of the baselines: a second network for tokenizing, plain or with a posterior (KL-VAE).

Both hold two Generative Encoders, one that tokenizes and one that denoises. They have the call
signature of the shared encoder, so objectives, trainer and pipelines work with any of them.
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
    """An encoder with a `tokenizer` and a `denoiser`; the denoiser has no embedder."""

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
    """The encoder of a KL-VAE, with a mean and a log variance per latent, and a denoiser.

    Called with an observation it returns the mean; `posterior` returns both. It needs
    `latent_norm_kind` "none", because the KL term bounds the latents instead of a norm.
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

        `intermediates` are those of the denoiser only; the tokenizer's have 2 C channels.
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
        twice = torch.cat([z_t, z_t], dim=2)  # the tokenizer has 2 C channels in and out
        mean, log_variance = self.tokenizer(twice, t, evidence, mask).chunk(2, dim=2)
        return mean, log_variance.clamp(-30.0, 20.0)


def _without_embedder(network: GenerativeEncoder) -> GenerativeEncoder:
    """The network after its embedder was removed: it can then only denoise."""
    del network.embedder
    return network


ENCODERS: dict[str, type[Encoder]] = {
    "shared": GenerativeEncoder,
    "separate": SeparateEncoder,
    "posterior": PosteriorEncoder,
}

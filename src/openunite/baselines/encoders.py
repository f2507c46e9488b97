"""Encoders of the baselines: a second network for tokenizing, plain or with a posterior (KL-VAE).

Both are Generative Encoders that denoise, and hold another one that tokenizes. They are called as
the shared encoder is, so objectives, trainer and pipelines need not know which they have.
"""

from functools import wraps
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from openunite.batch import NOTHING, Evidence
from openunite.models.generative_encoder import GenerativeEncoder


class SeparateEncoder(GenerativeEncoder):
    """Separate weights: the network itself denoises (without observation), `tokenizer` tokenizes.

    Its own embedder of observations is never used, and frozen.
    """

    @wraps(GenerativeEncoder.__init__)  # type: ignore[misc]  # diffusers reads the signature
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.embedder.requires_grad_(False)
        self.tokenizer = self._tokenizer()

    def _tokenizer(self) -> GenerativeEncoder:
        return GenerativeEncoder(**_settings(self))

    def forward(
        self,
        z_t: Float[Tensor, "b k c"],
        t: Float[Tensor, " b"],
        evidence: Evidence = NOTHING,
        mask: Bool[Tensor, "b k"] | None = None,
        intermediates: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "b k c"]:
        """Equation (1) by the tokenizer, equation (4) by the network itself."""
        if evidence.observation is None:
            return super().forward(z_t, t, evidence, mask, intermediates)
        return self._tokenize(z_t, t, evidence, mask, intermediates)

    def _tokenize(self, *given: Any) -> Float[Tensor, "b k c"]:
        return self.tokenizer(*given)


class PosteriorEncoder(SeparateEncoder):
    """The tokenizer of a KL-VAE: a mean and a log variance per latent, no norm over the channels.

    Called with an observation it returns the mean; `posterior` gives both. Built with
    `latent_norm_kind` "none": the KL term, not a norm, bounds the latents.
    """

    def _tokenizer(self) -> GenerativeEncoder:
        settings = _settings(self)
        return GenerativeEncoder(
            **settings | {"latent_channels": 2 * settings["latent_channels"]},
        )

    def _tokenize(self, *given: Any) -> Float[Tensor, "b k c"]:
        """The posterior's mean; the intermediates have 2 C channels and are not handed out."""
        return self.posterior(*given[:4])[0]

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


ENCODERS: dict[str, type[GenerativeEncoder]] = {
    "shared": GenerativeEncoder,
    "separate": SeparateEncoder,
    "posterior": PosteriorEncoder,
}


def _settings(model: GenerativeEncoder) -> dict[str, Any]:
    """The arguments a model was built with."""
    return {name: value for name, value in model.config.items() if not name.startswith("_")}

"""The decoder from latents to data: a plain ViT without time or class input."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.modality import get_modality
from openunite.models.initialization import initialize
from openunite.nn.block import PlainBlock
from openunite.nn.embeddings import sincos_table


class Decoder(ModelMixin, ConfigMixin):
    """Latents (B, K, C) -> data; for images (B, channels, H, W), not clamped.

    With K = N the latents take the places of the data tokens. With K != N, N learned query tokens
    are appended to the K latents, and the output is read from them.

    The arguments are the saved config. `modality`, `modality_config`, `num_registers` (K) and
    `latent_channels` (C) equal those of the encoder. `width`, `depth`, `num_heads` and `mlp_width`
    are the transformer's. `input_width`: width of an extra Linear in front, as in the release.
    """

    positions: Tensor

    @register_to_config
    def __init__(
        self,
        modality: str,
        modality_config: Mapping[str, Any],
        num_registers: int,
        latent_channels: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_width: int,
        input_width: int | None = None,
    ) -> None:
        super().__init__()
        self.head = get_modality(modality, modality_config).head(width)
        outputs = self.head.num_tokens
        # As in the release, a second Linear follows directly on this one.
        self.widen = nn.Linear(latent_channels, input_width) if input_width else nn.Identity()
        self.latent_input = nn.Linear(input_width or latent_channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.query_tokens = (
            None if outputs == num_registers else nn.Parameter(torch.zeros(1, outputs, width))
        )
        table = self.head.positions
        if self.query_tokens is not None:
            table = torch.cat([sincos_table(torch.arange(num_registers), width), table])
        self.register_buffer("positions", table, persistent=False)
        self.blocks = nn.ModuleList(PlainBlock(width, num_heads, mlp_width) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, eps=1e-12)
        initialize(self)

    def forward(
        self, z0: Float[Tensor, "b k c"], mask: Bool[Tensor, "b k"] | None = None
    ) -> Tensor:
        """Equation (2). `mask` is True for valid latents, False for padding (only with K = N)."""
        batch, latents = z0.shape[:2]
        x = self.latent_input(self.widen(z0))
        if self.query_tokens is not None:
            x = torch.cat([x, self.query_tokens.expand(batch, -1, -1)], dim=1)
        x = x + self.positions[: x.shape[1]]
        x = torch.cat([self.cls_token.expand(batch, -1, -1), x], dim=1)
        mask = None if mask is None else nn.functional.pad(mask, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm_out(x)
        return self.head(x[:, 1:] if self.query_tokens is None else x[:, 1 + latents :])

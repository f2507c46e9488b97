"""The Generative Encoder: one set of weights that tokenizes and denoises.

Tokenizing is noise plus an observation; denoising is z_t plus conditions. Shapes: B batch,
K registers, C latent channels, N observation tokens, P in-context tokens, D model width.
Sequence: [in-context | tokens of conditions | registers | observation], each where it is needed.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.batch import CLASS, NOTHING, Evidence
from openunite.conditions.tokens import ConditionTokens, Tokens, see_before, seen_mask
from openunite.modality import get_modality
from openunite.models.initialization import initialize
from openunite.nn.block import AdaptiveBlock
from openunite.nn.embeddings import ClassEmbedding, TimeEmbedding, rotary_angles, sincos_table
from openunite.nn.norm import Modulation, RMSNorm, build_latent_norm


class Encoder(ModelMixin, ConfigMixin):
    """What tokenizes, given an observation, and denoises, given none: one network or two.

    `config` has the settings of `GenerativeEncoder`, and it is called like one.
    """

    def networks(self) -> tuple["GenerativeEncoder", "GenerativeEncoder"]:
        """The network that tokenizes and the one that denoises."""
        raise NotImplementedError


class GenerativeEncoder(Encoder):
    """(z_t, t, evidence) -> clean normalized latents z0 (B, K, C).

    The arguments are the saved config. `modality` and `modality_config`: its name and settings,
    which decide how a data point becomes N tokens. `num_registers`: K, the latents of a data point.
    `latent_channels`: C, the numbers in a latent. `width`, `depth`, `num_heads`: those of the
    transformer. `num_classes`: rows of the class table, without the one for no class.
    `num_context_tokens`: P copies of the class in the sequence, from block `context_start` on.
    `latent_norm_kind`: the norm that bounds latents, see `build_latent_norm`. `block_norm`: a third
    norm in each block, on the residual stream. `conditions`: kind and settings of each condition
    beside the class, by name (see `openunite.conditions`).
    """

    angles: Tensor

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
        num_classes: int = 0,
        num_context_tokens: int = 32,
        context_start: int = 4,
        latent_norm_kind: str = "layernorm",
        block_norm: bool = True,
        conditions: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if num_context_tokens and not 0 <= context_start < depth:
            raise ValueError(f"context_start must be one of {depth} blocks, got {context_start}")
        self.embedder = get_modality(modality, modality_config).embedder(width)
        self.register_input = nn.Linear(latent_channels, width)
        positions = sincos_table(torch.arange(num_registers), width)
        self.register_positions = nn.Parameter(positions[None])
        self.time_embedding = TimeEmbedding(width)
        self.class_embedding = ClassEmbedding(num_classes, width)
        self.context_positions = nn.Parameter(torch.zeros(1, num_context_tokens, width))
        self.blocks = nn.ModuleList(
            AdaptiveBlock(width, num_heads, block_norm) for _ in range(depth)
        )
        self.norm_out = RMSNorm(width)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.latent_output = nn.Linear(width, latent_channels)
        self.latent_norm = build_latent_norm(latent_norm_kind, latent_channels)
        first, tokens = 0 if self.embedder.tied else num_registers, self.embedder.num_tokens
        table = rotary_angles(max(num_registers, first + tokens), width // num_heads)
        unrotated = table.new_zeros(num_context_tokens, table.shape[1])
        angles = torch.cat([unrotated, table[:num_registers], table[first : first + tokens]])
        self.register_buffer("angles", angles.float(), persistent=False)
        self.condition_tokens = ConditionTokens(conditions or {}, width)
        initialize(self)

    def networks(self) -> tuple["GenerativeEncoder", "GenerativeEncoder"]:
        """The same network twice: its weights are shared."""
        return self, self

    def forward(
        self,
        z_t: Float[Tensor, "b k c"],
        t: Float[Tensor, " b"],
        evidence: Evidence = NOTHING,
        mask: Bool[Tensor, "b k"] | None = None,
        intermediates: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "b k c"]:
        """Equations (1) and (4).

        `evidence` is what the network is shown: the observation when tokenizing, conditions when
        denoising, or nothing. `mask` marks valid registers (and observation tokens, which are tied
        to them by index). A dictionary given as `intermediates` receives the registers after every
        block ("block.i", (B, K, D)) and the latents before their norm ("prenorm", (B, K, C)).
        """
        batch, registers = z_t.shape[:2]
        label = self.class_embedding.of(evidence.conditions.get(CLASS), batch)
        c = nn.functional.silu(self.time_embedding(t) + label)

        x = self.register_input(z_t) + self.register_positions[:, :registers]
        if evidence.observation is not None:
            tokens = self.embedder(evidence.observation)
            x = x + tokens if self.embedder.added else torch.cat([x, tokens], dim=1)
            mask = mask if self.embedder.added else seen_mask(mask, evidence, registers)
        sequence = Tokens(x, mask, self._angles(registers, x.shape[1] - registers))
        x, mask, angles, first = self.condition_tokens(evidence.conditions, sequence)
        context, place = self.config.num_context_tokens, slice(first, first + registers)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            if i == self.config.context_start and context:
                x = torch.cat([label[:, None] + self.context_positions, x], dim=1)
                mask = None if mask is None else see_before(mask, context)
                angles = torch.cat([self.angles[:context], angles])
                place = slice(context + first, context + first + registers)
            x = block(x, c, angles, mask, place if i == last else slice(None))
            if intermediates is not None:
                intermediates[f"block.{i}"] = x if i == last else x[:, place]
        return self._latents(x, c, intermediates)

    def _angles(self, registers: int, tokens: int) -> Tensor:
        """Of the first registers and observation tokens; the table begins with the in-context."""
        own, first = self.angles[self.config.num_context_tokens :], self.config.num_registers
        return torch.cat([own[:registers], own[first : first + tokens]])

    def _latents(self, x: Tensor, c: Tensor, intermediates: dict[str, Tensor] | None) -> Tensor:
        shift, scale = self.modulation_out(c)[:, None, :].chunk(2, dim=-1)
        x = self.norm_out(x, Modulation(shift, scale))
        with torch.autocast(x.device.type, enabled=False):  # targets are not rounded to bfloat16
            prenorm = self.latent_output(x.to(self.latent_output.weight.dtype))
            if intermediates is not None:
                intermediates["prenorm"] = prenorm
            weight = getattr(self.latent_norm, "weight", None)  # as exact as the norm is kept
            exact = torch.promote_types(prenorm.dtype, torch.float32)
            return self.latent_norm(prenorm.to(exact if weight is None else weight.dtype))

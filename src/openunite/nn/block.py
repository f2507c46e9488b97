"""Transformer blocks: the adaptive one of the Generative Encoder, the plain one of the decoder."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.nn.attention import Attention
from openunite.nn.norm import Modulation, RMSNorm


class SwiGLU(nn.Module):
    """silu(first half) * second half of one projection to 2m, m = int(2/3 * 4 D), then back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(2 / 3 * 4 * width)
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        # Halving the weight, not its output, spares the backward pass a copy of the activations.
        weights, biases = self.up.weight.chunk(2), self.up.bias.chunk(2)
        gate, value = (nn.functional.linear(x, w, b) for w, b in zip(weights, biases, strict=True))
        return self.down(nn.functional.silu(gate) * value)


class AdaptiveBlock(nn.Module):
    """Attention and SwiGLU, each under adaLN with a gate, then a norm on the residual stream."""

    def __init__(self, width: int, num_heads: int, block_norm: bool = True) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(width)
        self.attention = Attention(width, num_heads, rotary=True)
        self.norm_mlp = RMSNorm(width)
        self.mlp = SwiGLU(width)
        self.norm_block = RMSNorm(width) if block_norm else nn.Identity()
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self,
        x: Float[Tensor, "b s d"],
        condition: Float[Tensor, "b d"],
        angles: Float[Tensor, "s half"],
        mask: Bool[Tensor, "b s"] | Float[Tensor, "b s"] | None = None,
        queries: slice = slice(None),
    ) -> Float[Tensor, "b q d"]:
        """`condition` is SiLU(c). Positions outside `queries` serve as keys only, then drop out."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[
            :, None, :
        ].chunk(6, dim=-1)
        h = self.norm_attention(x, Modulation(shift_a, scale_a))
        x = torch.addcmul(x[:, queries], gate_a, self.attention(h, angles, mask, queries))
        h = self.norm_mlp(x, Modulation(shift_m, scale_m))
        return self.norm_block(torch.addcmul(x, gate_m, self.mlp(h)))


class PlainBlock(nn.Module):
    """Pre-LayerNorm ViT block: attention without rotary, exact-GELU MLP, biases everywhere."""

    def __init__(self, width: int, num_heads: int, mlp_width: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=1e-12)
        self.attention = Attention(width, num_heads, rotary=False)
        self.norm_mlp = nn.LayerNorm(width, eps=1e-12)
        self.mlp_up = nn.Linear(width, mlp_width)
        self.mlp_down = nn.Linear(mlp_width, width)

    def forward(
        self, x: Float[Tensor, "b s d"], mask: Bool[Tensor, "b s"] | None = None
    ) -> Float[Tensor, "b s d"]:
        x = x + self.attention(self.norm_attention(x), mask=mask)
        return x + self.mlp_down(nn.functional.gelu(self.mlp_up(self.norm_mlp(x))))

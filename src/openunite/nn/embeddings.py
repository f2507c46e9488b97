"""Position tables, rotary angles, and the embeddings of time and class."""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from openunite.batch import Given


def sincos_table(positions: Num[Tensor, " n"], width: int) -> Float[Tensor, "n d"]:
    """[sin(p w_i) | cos(p w_i)] with w_i = 10000^(-i / (width / 2)), float32."""
    half = width // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = positions.double()[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def sincos_grid(rows: int, columns: int, width: int) -> Float[Tensor, "n d"]:
    """2-D table, row-major: first half of the channels from the column, second from the row."""
    if width % 4:
        raise ValueError(f"a 2-D sin-cos table needs a width divisible by 4, got {width}")
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat(
        [sincos_table(column.flatten(), width // 2), sincos_table(row.flatten(), width // 2)], dim=1
    )


def rotary_angles(length: int, head_width: int) -> Float[Tensor, "n half"]:
    """Angles p 10000^(-2i / head_width) of 1-D rotary positions p = 0 .. length - 1."""
    rates = 10000.0 ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    return torch.arange(length, dtype=torch.float64)[:, None] * rates[None, :]


def fourier_features(x: Float[Tensor, "*b 1"], count: int) -> Float[Tensor, "*b f"]:
    """[sin(2 pi x w), cos(2 pi x w)] with `count` rates w from 1/16 to 8, each a factor apart."""
    rates = 2.0 ** torch.linspace(-4.0, 3.0, count, device=x.device)
    angles = 2.0 * math.pi * x * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeEmbedding(nn.Module):
    """[sin(2 pi t w), cos(2 pi t w)] with 256 fixed w ~ N(0, 1), then an MLP to the width."""

    frequencies: Tensor

    def __init__(self, width: int, num_frequencies: int = 256) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        frequencies = torch.randn(num_frequencies, generator=generator, device="cpu")
        self.register_buffer("frequencies", frequencies)
        self.mlp_in = nn.Linear(2 * num_frequencies, width)
        self.mlp_out = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        angles = 2.0 * math.pi * t[:, None] * self.frequencies[None, :]
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.mlp_out(nn.functional.silu(self.mlp_in(features.to(self.mlp_in.weight.dtype))))


class ClassEmbedding(nn.Embedding):
    """Table of class vectors; the last row stands for no class. num_classes = 0 is allowed."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__(num_classes + 1, width)
        self.num_classes = num_classes

    def of(self, given: Given | None, batch_size: int) -> Float[Tensor, "b d"]:
        """The vector of each sample's class (B, D), the last row where no class is known."""
        if given is None:
            return self(torch.full((batch_size,), self.num_classes, device=self.weight.device))
        return self(torch.where(given.known, given.values, self.num_classes))

"""Atoms as tokens: one per atom, tied by its index to a register."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.modality import Embedder, Head
from openunite.nn.embeddings import sincos_table


class ExactLinear(nn.Linear):
    """In float32 at least, also under autocast: bfloat16 has steps of 0.016 A at 3 A."""

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        exact = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.linear(x.to(exact), self.weight.to(exact), self.bias.to(exact))


@dataclass(frozen=True)
class AtomSettings:
    """Settings of molecules and crystals: the atomic numbers, and the most atoms there can be."""

    elements: tuple[int, ...]
    max_atoms: int

    def __post_init__(self) -> None:
        if not self.elements or len(set(self.elements)) < len(self.elements):
            raise ValueError(f"elements must be distinct atomic numbers, got {self.elements}")
        if self.max_atoms < 1:
            raise ValueError(f"max_atoms must be at least 1, got {self.max_atoms}")


class AtomEmbedder(Embedder):
    """A vector of the element, an MLP of F features, and the sin-cos table of the index."""

    tied = True
    positions: Tensor

    def __init__(
        self, elements: Sequence[int], max_atoms: int, num_features: int, width: int
    ) -> None:
        super().__init__()
        self.elements = tuple(elements)  # atomic numbers
        self.num_tokens = max_atoms
        self.element = nn.Embedding(len(elements), width)
        self.features_in = ExactLinear(num_features, width)
        self.features_out = ExactLinear(width, width)
        table = sincos_table(torch.arange(max_atoms), width)
        self.register_buffer("positions", table, persistent=False)

    def tokens(
        self, index: Float[Tensor, "b n"], features: Float[Tensor, "b n f"]
    ) -> Float[Tensor, "b n d"]:
        """Tokens of atoms from the index of their element and their features."""
        hidden = nn.functional.silu(self.features_in(features))
        places = self.positions[: index.shape[1]]
        return self.element(index.long()) + self.features_out(hidden) + places


class AtomHead(Head):
    """States (B, N, D) -> (B, N, num_outputs), linear; the index is a sin-cos table."""

    def __init__(self, max_atoms: int, num_outputs: int, width: int) -> None:
        super().__init__()
        self.num_tokens = max_atoms
        self.projection = ExactLinear(width, num_outputs)
        table = sincos_table(torch.arange(max_atoms), width)
        self.register_buffer("positions", table, persistent=False)

    def forward(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b n f"]:
        return self.projection(states)


def mean_over_atoms(values: Float[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Mean over the atoms of each structure; a mean over structures then weighs them alike."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1)


def random_rotations(normal: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3 3"]:
    """Uniform rotations: unit quaternions (w, x, y, z) from normal numbers, as matrices."""
    w, x, y, z = nn.functional.normalize(normal, dim=1).unbind(dim=1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(-1, 3, 3)

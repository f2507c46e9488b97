"""Atoms as tokens: one token per atom, tied by the atom's index to a register."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.modality import Embedder, Head
from openunite.nn.embeddings import sincos_table


class ExactLinear(nn.Linear):
    """A linear layer in at least float32, even under autocast: bfloat16 is too coarse for Angstrom.

    At 3 Angstrom, numbers in bfloat16 are 0.016 Angstrom apart.
    """

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        exact = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.linear(x.to(exact), self.weight.to(exact), self.bias.to(exact))


@dataclass(frozen=True)
class AtomSettings:
    """Settings of molecules and crystals: known atomic numbers and the largest number of atoms."""

    elements: tuple[int, ...]
    max_atoms: int

    def __post_init__(self) -> None:
        if not self.elements or len(set(self.elements)) < len(self.elements):
            raise ValueError(f"elements must be distinct atomic numbers, got {self.elements}")
        if self.max_atoms < 1:
            raise ValueError(f"max_atoms must be at least 1, got {self.max_atoms}")


class AtomEmbedder(Embedder):
    """Tokens are the sum of an element embedding, an MLP of F features and a sin-cos table."""

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
    """Linear map of states (B, N, D) -> (B, N, num_outputs); `positions` encodes atom indices."""

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
    """Uniform random rotation matrices, by unit quaternions (w, x, y, z) from normal numbers."""
    w, x, y, z = nn.functional.normalize(normal, dim=1).unbind(dim=1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(-1, 3, 3)

"""Molecules: elements and positions in, elements and positions out, one register per atom.

A molecule is a packed tensor (N, 4): the index of its element among `elements`, then x, y, z in
Angstrom, centered on the mean of its atoms.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.atoms.tokens import (
    AtomEmbedder,
    AtomHead,
    mean_over_atoms,
    random_rotations,
)
from openunite.modalities.base import Batch, Modality


class MoleculeEmbedder(AtomEmbedder):
    """Packed molecules (B, N, 4) -> tokens (B, N, D)."""

    def forward(self, molecules: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n d"]:
        return self.tokens(molecules[..., 0], molecules[..., 1:])


class MoleculeModality(Modality):
    """Settings: `elements`, atomic numbers; `max_atoms`; `rotate` (True) turns training data.

    Output of the head: element logits, then x, y, z in Angstrom. The loss is the sum of the
    cross-entropy of elements, 3 times the L1 of positions, and the L1 of distances between
    atoms closer than 3 Angstrom, which decides whether two atoms look bonded.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        known = {"elements", "max_atoms", "rotate"}
        if unknown := set(config) - known:
            raise ValueError(
                f"unknown molecule settings {sorted(unknown)}, expected {sorted(known)}"
            )
        if missing := {"elements", "max_atoms"} - set(config):
            raise ValueError(f"molecule settings lack {', '.join(sorted(missing))}")
        self.elements = tuple(config["elements"])
        self.max_atoms = config["max_atoms"]
        self.rotate = config.get("rotate", True)

    def embedder(self, width: int) -> MoleculeEmbedder:
        return MoleculeEmbedder(len(self.elements), self.max_atoms, 3, width)

    def head(self, width: int) -> AtomHead:
        return AtomHead(self.max_atoms, len(self.elements) + 3, width)

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {name: error.mean() for name, error in self.errors(output, batch).items()}

    def errors(self, output: Tensor, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """The losses of each molecule."""
        data, mask = batch["data"], batch["mask"]
        logits, found = output.float().split([len(self.elements), 3], dim=-1)
        types = F.cross_entropy(logits.transpose(1, 2), data[..., 0].long(), reduction="none")
        positions = (found - data[..., 1:]).abs().mean(dim=-1)
        return {
            "elements": mean_over_atoms(types, mask),
            "positions": 3.0 * mean_over_atoms(positions, mask),
            "distances": distance_error(found, data[..., 1:], mask),
        }

    def prepare(self, batch: Batch, random: SlotRandom | None) -> dict[str, Tensor]:
        if random is None or not self.rotate:
            return dict(batch)
        data, turn = batch["data"], random_rotations(random.normal(Stream.AUGMENT, 4))
        return {**batch, "data": torch.cat([data[..., :1], data[..., 1:] @ turn], dim=-1)}


def distance_error(
    found: Tensor, truth: Tensor, mask: Tensor, cutoff: float = 3.0
) -> Float[Tensor, " b"]:
    """L1 of the distances between atoms that are closer than `cutoff` (Angstrom) in the truth."""
    apart = (truth[:, :, None] - truth[:, None]).square().sum(-1).clamp_min(1e-6).sqrt()
    predicted = (found[:, :, None] - found[:, None]).square().sum(-1).clamp_min(1e-6).sqrt()
    pairs = mask[:, :, None] & mask[:, None] & (apart < cutoff)
    pairs = pairs & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    error = ((predicted - apart).abs() * pairs).sum(dim=(1, 2))
    return error / pairs.sum(dim=(1, 2)).clamp_min(1)

"""Crystals: elements, fractional coordinates and lattice in and out, one register per atom.

A crystal is a packed tensor (N, 10): the index of its element among `elements`, three fractional
coordinates in [0, 1), lengths a, b, c in Angstrom and angles alpha, beta, gamma in degrees, the
last six the same on each row.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.atoms.tokens import AtomEmbedder, AtomHead, mean_over_atoms
from openunite.modalities.base import Batch, Modality

FRACTIONAL, LENGTHS, ANGLES = slice(1, 4), slice(4, 7), slice(7, 10)
_RIGHT_ANGLE = 90.0


class CrystalEmbedder(AtomEmbedder):
    """Packed crystals (B, N, 10) -> tokens (B, N, D); periodic in the fractional coordinates."""

    def forward(self, crystals: Float[Tensor, "b n 10"]) -> Float[Tensor, "b n d"]:
        phase = 2.0 * math.pi * crystals[..., FRACTIONAL]
        lattice = torch.cat([crystals[..., LENGTHS] / 10.0, crystals[..., ANGLES] / 90.0], dim=-1)
        features = torch.cat([phase.sin(), phase.cos(), lattice], dim=-1)
        return self.tokens(crystals[..., 0], features)


class CrystalModality(Modality):
    """Settings: `elements`, atomic numbers; `max_atoms`; `shift` (True) moves training data.

    Output of the head, for each atom: element logits, fractional coordinates, and six numbers whose
    mean over the atoms is the lattice: lengths / N^(1/3) in Angstrom, angles / 90 degrees. The loss
    is the sum of the cross-entropy of elements, 10 times the L1 of fractional coordinates (to the
    nearest image), the L1 of the scaled lengths, and 10 times the L1 of the scaled angles.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        known = {"elements", "max_atoms", "shift"}
        if unknown := set(config) - known:
            raise ValueError(
                f"unknown crystal settings {sorted(unknown)}, expected {sorted(known)}"
            )
        if missing := {"elements", "max_atoms"} - set(config):
            raise ValueError(f"crystal settings lack {', '.join(sorted(missing))}")
        self.elements = tuple(config["elements"])
        self.max_atoms = config["max_atoms"]
        self.shift = config.get("shift", True)

    def embedder(self, width: int) -> CrystalEmbedder:
        return CrystalEmbedder(len(self.elements), self.max_atoms, 12, width)

    def head(self, width: int) -> AtomHead:
        return AtomHead(self.max_atoms, len(self.elements) + 9, width)

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        data, mask = batch["data"], batch["mask"]
        logits, fractional, lengths, angles = self.split(output, mask)
        types = F.cross_entropy(logits.transpose(1, 2), data[..., 0].long(), reduction="none")
        moved = fractional - data[..., FRACTIONAL]
        wrapped = (moved - moved.detach().round()).abs().mean(dim=-1)
        scale = mask.sum(dim=1, keepdim=True) ** (1 / 3)
        return {
            "elements": mean_over_atoms(types, mask),
            "fractional": 10.0 * mean_over_atoms(wrapped, mask),
            "lengths": ((lengths - data[:, 0, LENGTHS]) / scale).abs().mean(),
            "angles": 10.0 * ((angles - data[:, 0, ANGLES]) / _RIGHT_ANGLE).abs().mean(),
        }

    def split(self, output: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Element logits (B, N, E), fractional (B, N, 3), lengths (B, 3) in A, angles (B, 3)."""
        logits, fractional, lattice = output.float().split([len(self.elements), 3, 6], dim=-1)
        count = mask.sum(dim=1, keepdim=True)
        mean = (lattice * mask[..., None]).sum(dim=1) / count
        return logits, fractional, mean[:, :3] * count ** (1 / 3), mean[:, 3:] * _RIGHT_ANGLE

    def prepare(self, batch: Batch, random: SlotRandom | None) -> dict[str, Tensor]:
        if random is None or not self.shift:
            return dict(batch)
        data = batch["data"]
        moved = (data[..., FRACTIONAL] + random.uniform(Stream.AUGMENT, 1, 3)) % 1.0
        return {**batch, "data": torch.cat([data[..., :1], moved, data[..., 4:]], dim=-1)}

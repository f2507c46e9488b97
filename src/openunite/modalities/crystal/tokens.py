"""Crystals: elements, fractional coordinates and lattice in and out, one register per atom.

A crystal is a packed tensor (N, 10): the index of its element among `elements`, three fractional
coordinates in [0, 1), lengths a, b, c in Angstrom and angles alpha, beta, gamma in degrees, the
last six the same on each row.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openunite.batch import Batch
from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.atoms.tokens import AtomEmbedder, AtomHead, AtomSettings, mean_over_atoms
from openunite.modality import Modality

FRACTIONAL, LENGTHS, ANGLES = slice(1, 4), slice(4, 7), slice(7, 10)
_RIGHT_ANGLE = 90.0


class CrystalEmbedder(AtomEmbedder):
    """Packed crystals (B, N, 10) -> tokens (B, N, D); periodic in the fractional coordinates."""

    def forward(self, crystals: Float[Tensor, "b n 10"]) -> Float[Tensor, "b n d"]:
        return self.tokens(crystals[..., 0], lattice_features(crystals))


@dataclass(frozen=True)
class CrystalSettings(AtomSettings):
    """Settings of crystals; `shift` moves the origin of training crystals at random."""

    shift: bool = True


class CrystalModality(Modality):
    """Crystals: packed tensors (B, N, 10) in, (B, N, E + 12) out.

    Output of the head, for each atom: element logits; a point of the plane for each fractional
    coordinate, whose angle is 2 pi times the coordinate (one number cannot follow it continuously
    around the circle); and six numbers whose mean over the atoms is the lattice: lengths / N^(1/3)
    in Angstrom, angles / 90 degrees. The loss is the sum of the cross-entropy of elements, 3 times
    the L1 of the points, the L1 of the scaled lengths, and 10 times the L1 of the scaled angles.
    """

    Settings = CrystalSettings
    settings: CrystalSettings

    def __init__(self, settings: CrystalSettings) -> None:
        super().__init__(settings)
        self.elements, self.max_atoms = settings.elements, settings.max_atoms

    def embedder(self, width: int) -> CrystalEmbedder:
        return CrystalEmbedder(self.elements, self.max_atoms, 12, width)

    def head(self, width: int) -> AtomHead:
        return AtomHead(self.max_atoms, len(self.elements) + 12, width)

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {name: error.mean() for name, error in self.errors(output, batch).items()}

    def errors(self, output: Tensor, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """The terms of the loss by name, (B,) with one value per crystal."""
        data, mask = batch.data, batch.valid
        logits, points, lengths, angles = self.split(output, mask)
        types = F.cross_entropy(logits.transpose(1, 2), data[..., 0].long(), reduction="none")
        apart = (points - circle(data[..., FRACTIONAL])).abs().mean(dim=-1)
        scale = mask.sum(dim=1, keepdim=True) ** (1 / 3)
        return {
            "elements": mean_over_atoms(types, mask),
            "fractional": 3.0 * mean_over_atoms(apart, mask),
            "lengths": ((lengths - data[:, 0, LENGTHS]) / scale).abs().mean(dim=1),
            "angles": 10.0 * ((angles - data[:, 0, ANGLES]) / _RIGHT_ANGLE).abs().mean(dim=1),
        }

    def split(self, output: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Element logits (B, N, E), points (B, N, 6), lengths (B, 3) in A, angles (B, 3)."""
        logits, points, lattice = output.float().split([len(self.elements), 6, 6], dim=-1)
        count = mask.sum(dim=1, keepdim=True)
        mean = (lattice * mask[..., None]).sum(dim=1) / count
        return logits, points, mean[:, :3] * count ** (1 / 3), mean[:, 3:] * _RIGHT_ANGLE

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        if random is None or not self.settings.shift:
            return batch
        data = batch.data
        moved = (data[..., FRACTIONAL] + random.uniform(Stream.AUGMENT, 1, 3)) % 1.0
        return batch.with_data(torch.cat([data[..., :1], moved, data[..., 4:]], dim=-1))


def lattice_features(crystals: Float[Tensor, "b n 10"]) -> Float[Tensor, "b n 12"]:
    """Fractional coordinates as points of circles, then lengths / 10 A and angles / 90 degrees."""
    lattice = torch.cat([crystals[..., LENGTHS] / 10.0, crystals[..., ANGLES] / 90.0], dim=-1)
    return torch.cat([circle(crystals[..., FRACTIONAL]), lattice], dim=-1)


def circle(fractional: Float[Tensor, "... 3"]) -> Float[Tensor, "... 6"]:
    """Fractional coordinates as points [cos | sin] of the unit circle: equal for all images."""
    phase = 2.0 * math.pi * fractional
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


def fractional_of(points: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3"]:
    """The inverse of `circle`, in [0, 1]; the distance from the center does not matter."""
    cos, sin = points.chunk(2, dim=-1)
    return torch.atan2(sin, cos) / (2.0 * math.pi) % 1.0

"""Molecules and crystals in one model: its embedder, its output and its losses.

A structure is a packed tensor (N, 10) as for crystals; a molecule has x, y, z in Angstrom in the
place of the fractional coordinates, and zeros for the lattice, which tells the two apart.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.modalities.atoms.tokens import AtomEmbedder, AtomHead, AtomSettings
from openunite.modalities.crystal.tokens import CrystalModality, CrystalSettings, lattice_features
from openunite.modalities.molecule.tokens import (
    MoleculeModality,
    MoleculeSettings,
    positions_and_vectors,
)
from openunite.modality import Modality

MOLECULE, CRYSTAL = 0, 1  # class labels: the dataset a structure comes from
CLASS_NAMES = ("molecules", "crystals")
_MOLECULE_OUTPUTS, _CRYSTAL_OUTPUTS = 6, 12


class JointEmbedder(AtomEmbedder):
    """Packed structures (B, N, 10) -> tokens (B, N, D)."""

    def forward(self, structures: Float[Tensor, "b n 10"]) -> Float[Tensor, "b n d"]:
        periodic = is_crystal(structures)[:, None, None].expand(*structures.shape[:2], 1)
        places = torch.cat(positions_and_vectors(structures[..., :4], self.elements), dim=-1)
        here = torch.where(periodic, 0.0, places)
        there = torch.where(periodic, lattice_features(structures), 0.0)
        features = torch.cat([here, there, periodic.to(here.dtype)], dim=-1)
        return self.tokens(structures[..., 0], features)


class JointModality(Modality):
    """Molecules and crystals: packed tensors (B, N, 10) in, (B, N, E + 19) out.

    Output of the head, for each atom: element logits, 6 numbers as in `MoleculeModality`, 12 as in
    `CrystalModality`, and a number whose mean over the atoms is the logit of being a crystal. Each
    structure has the losses of its own kind, and the cross-entropy of the kind.
    """

    Settings = AtomSettings
    settings: AtomSettings

    def __init__(self, settings: AtomSettings) -> None:
        super().__init__(settings)
        self.elements, self.max_atoms = settings.elements, settings.max_atoms
        self.molecule = MoleculeModality(MoleculeSettings(self.elements, self.max_atoms))
        self.crystal = CrystalModality(CrystalSettings(self.elements, self.max_atoms))

    def embedder(self, width: int) -> JointEmbedder:
        return JointEmbedder(self.elements, self.max_atoms, 6 + 12 + 1, width)

    def head(self, width: int) -> AtomHead:
        outputs = len(self.elements) + _MOLECULE_OUTPUTS + _CRYSTAL_OUTPUTS + 1
        return AtomHead(self.max_atoms, outputs, width)

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        as_molecule, as_crystal, kind = self.split(output, batch.valid)
        crystals, near = is_crystal(batch.data), batch.data[..., :4]
        parts = {
            MOLECULE: self.molecule.errors(as_molecule, batch.with_data(near)),
            CRYSTAL: self.crystal.errors(as_crystal, batch),
        }
        losses = {"kind": F.binary_cross_entropy_with_logits(kind, crystals.float())}
        for label, errors in parts.items():
            ours = crystals == bool(label)
            for name, error in errors.items():
                share = torch.where(ours, error, 0.0).mean()
                losses[name] = losses[name] + share if name in losses else share
        return losses

    def split(
        self, output: Tensor, mask: Bool[Tensor, "b n"]
    ) -> tuple[Tensor, Tensor, Float[Tensor, " b"]]:
        """Outputs for a molecule (B, N, E + 6), a crystal (B, N, E + 12); the crystal's logit."""
        sizes = [len(self.elements), _MOLECULE_OUTPUTS, _CRYSTAL_OUTPUTS, 1]
        logits, molecular, periodic, kind = output.float().split(sizes, dim=-1)
        mean = (kind[..., 0] * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.cat([logits, molecular], -1), torch.cat([logits, periodic], -1), mean

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        """Rotate molecules and shift crystals at random."""
        data = batch.data
        turned = self.molecule.prepare(batch.with_data(data[..., :4]), random).data
        turned = torch.cat([turned, data[..., 4:]], dim=-1)
        shifted = self.crystal.prepare(batch, random).data
        crystals = is_crystal(data)[:, None, None]
        return batch.with_data(torch.where(crystals, shifted, turned))


def is_crystal(structures: Float[Tensor, "b n 10"]) -> Bool[Tensor, " b"]:
    """Whether the first atom of each structure carries a lattice."""
    return structures[:, 0, 4] > 0.0

"""JointPipeline: one checkpoint for molecules and crystals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from openunite.batch import CLASS, Evidence
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.structure import Structure
from openunite.data.joint import JointDataset, joint_dataset
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.crystal.pipeline import crystals_of
from openunite.modalities.joint.tokens import JointModality
from openunite.modalities.molecule.pipeline import molecules_of


class JointPipeline(AtomPipeline):
    """Molecules and crystals; the class, "molecules" or "crystals", says which to generate.

    Without a class it generates either kind. Structures with a cell are encoded as crystals.
    Impossible lattices are NaN, as from `CrystalPipeline`.
    """

    def _dataset(self, structures: Sequence[Structure]) -> AtomDataset | JointDataset:
        return joint_dataset(structures, self.elements)

    def _structures(self, output: Tensor, mask: Tensor) -> list[Structure]:
        modality = self.modality
        assert isinstance(modality, JointModality)
        as_molecule, as_crystal, kind = modality.split(output, mask)
        molecules = molecules_of(modality.molecule, as_molecule, mask)
        crystals = crystals_of(modality.crystal, as_crystal, mask)
        chosen = zip((kind > 0).tolist(), molecules, crystals, strict=True)
        return [crystal if periodic else molecule for periodic, molecule, crystal in chosen]

    def _histograms(self, evidence: Evidence, count: int) -> Tensor:
        """Size histogram (B, S) of each sample's class; the sum of both without a class."""
        rows = torch.tensor(self.config.size_histogram, dtype=torch.float64)
        chosen = evidence.conditions.get(CLASS)
        if chosen is None:
            return rows.sum(dim=0).expand(count, -1)
        return rows[chosen.values.cpu()]

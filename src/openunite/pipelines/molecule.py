"""MoleculePipeline: one checkpoint that encodes, decodes and generates molecules."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from openunite.modalities.atoms.arrays import pack
from openunite.modalities.atoms.dataset import AtomDataset
from openunite.modalities.atoms.structure import Structure
from openunite.modalities.molecule.data import molecule_dataset
from openunite.pipelines.atoms import AtomPipeline, numbers_of


class MoleculePipeline(AtomPipeline):
    """Molecules: elements and positions in Angstrom, explicit hydrogens, centered."""

    def _dataset(self, structures: Sequence[Structure]) -> AtomDataset:
        return molecule_dataset(pack(structures), np.arange(len(structures)), self.elements)

    def _structures(self, output: Tensor, mask: Tensor) -> list[Structure]:
        return molecules_of(output, mask, self.elements)


def molecules_of(output: Tensor, mask: Tensor, elements: Sequence[int]) -> list[Structure]:
    """What the head says (B, N, E + 3) as molecules."""
    logits, positions = output.split([len(elements), 3], dim=-1)
    places = positions.double().cpu().numpy()
    return [
        Structure(found, place[: len(found)])
        for found, place in zip(numbers_of(logits, mask, elements), places, strict=True)
    ]

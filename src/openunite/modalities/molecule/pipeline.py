"""MoleculePipeline: one checkpoint that encodes, decodes and generates molecules."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from openunite.data.atoms.arrays import pack
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.structure import Structure
from openunite.data.molecules.dataset import molecule_dataset
from openunite.modalities.atoms.pipeline import AtomPipeline, numbers_of
from openunite.modalities.molecule.tokens import MoleculeModality


class MoleculePipeline(AtomPipeline):
    """Molecules: elements and positions in Angstrom, explicit hydrogens, centered."""

    periodic = False
    formula_repeats = False

    def _dataset(self, structures: Sequence[Structure]) -> AtomDataset:
        return molecule_dataset(pack(structures), np.arange(len(structures)), self.elements)

    def _structures(self, output: Tensor, mask: Tensor) -> list[Structure]:
        modality = self.modality
        assert isinstance(modality, MoleculeModality)
        return molecules_of(modality, output, mask)


def molecules_of(modality: MoleculeModality, output: Tensor, mask: Tensor) -> list[Structure]:
    """Molecules from the output of the head (B, N, E + 6)."""
    logits, found = modality.split(output)
    places = found.double().cpu().numpy()
    return [
        Structure(numbers, place[: len(numbers)])
        for numbers, place in zip(numbers_of(logits, mask, modality.elements), places, strict=True)
    ]

"""CrystalPipeline: one checkpoint that encodes, decodes and generates crystals."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from openunite.data.atoms.arrays import pack
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.lattice import cell_from_parameters, reduce_cells, wrap
from openunite.data.atoms.structure import Structure
from openunite.data.crystals.dataset import crystal_dataset
from openunite.modalities.atoms.pipeline import AtomPipeline, numbers_of
from openunite.modalities.crystal.tokens import CrystalModality, fractional_of


class CrystalPipeline(AtomPipeline):
    """Crystals: elements, fractional coordinates and Niggli-reduced cells in Angstrom.

    A generated lattice whose angles no cell can have gets a cell and positions of NaN: its
    `is_finite` is False, metrics count it invalid, and it cannot be written.
    """

    periodic = True

    def _dataset(self, structures: Sequence[Structure]) -> AtomDataset:
        rows = np.arange(len(structures))
        return crystal_dataset(reduce_cells(pack(structures), rows), rows, self.elements)

    def _structures(self, output: Tensor, mask: Tensor) -> list[Structure]:
        modality = self.modality
        assert isinstance(modality, CrystalModality)
        return crystals_of(modality, output, mask)


def crystals_of(modality: CrystalModality, output: Tensor, mask: Tensor) -> list[Structure]:
    """Crystals from the output of the head (B, N, E + 12)."""
    logits, points, lengths, angles = modality.split(output, mask)
    cells = cell_from_parameters(torch.cat([lengths, angles], dim=1).double().cpu().numpy())
    places = wrap(fractional_of(points.double()).cpu().numpy())
    return [
        Structure(numbers, place[: len(numbers)] @ cell, cell)
        for numbers, place, cell in zip(
            numbers_of(logits, mask, modality.elements), places, cells, strict=True
        )
    ]

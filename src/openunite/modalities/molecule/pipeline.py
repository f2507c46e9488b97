"""MoleculePipeline: one checkpoint that encodes, decodes and generates molecules."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from openunite.batch import NOTHING, Evidence
from openunite.data.atoms.arrays import pack
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.structure import Structure
from openunite.data.molecules.dataset import molecule_dataset
from openunite.modalities.atoms.formula import check_formulas, composition_of, draw_formulas
from openunite.modalities.atoms.pipeline import AtomPipeline, Sizes, numbers_of, uniform_of
from openunite.modalities.molecule.tokens import MoleculeModality
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import Encoder
from openunite.pipelines.base import FORMAT_VERSION
from openunite.sampling import Sampling


class MoleculePipeline(AtomPipeline):
    """Molecules: elements and positions in Angstrom, explicit hydrogens, centered.

    `formula_histogram` says how many training molecules had each formula. A model that has a
    condition of kind composition then gets the formula of a sample from there, by the seed, where
    nothing is asked; with `conditions={}` it gets none.
    """

    periodic = False
    formula_repeats = False

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        sampling: Sampling | Mapping[str, Any] | None = None,
        class_names: list[str] | None = None,
        size_histogram: list[int] | None = None,
        formula_histogram: dict[str, int] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        super().__init__(encoder, decoder, sampling, class_names, size_histogram, format_version)
        found = check_formulas(formula_histogram or {})
        if found and composition_of(encoder.config.conditions):
            self.register_to_config(formula_histogram=found)

    @property
    def draws_formulas(self) -> bool:
        """Whether a formula is drawn for each sample of which nothing is asked."""
        return "formula_histogram" in self.config

    def _drawn(self, num_atoms: Sizes | None, seeds: Tensor) -> Evidence:
        """The formulas of samples of which nothing is asked."""
        name, count = composition_of(self.encoder.config.conditions), len(seeds)
        if name is None or not self.draws_formulas:
            return NOTHING
        sizes = None if num_atoms is None else self._asked_sizes(num_atoms, count)
        formulas = draw_formulas(self.config.formula_histogram, uniform_of(seeds), sizes)
        return self._evidence(None, count, {name: formulas})

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

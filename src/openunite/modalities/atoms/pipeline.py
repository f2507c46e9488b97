"""The common base of molecule and crystal pipelines: one latent per atom, any number of atoms."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openunite.batch import NOTHING, Evidence
from openunite.conditions.composition import Counts
from openunite.data.atoms.checks import cell_faults
from openunite.data.atoms.convert import is_structure, structure_of
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.data.joint import JointDataset
from openunite.drawing.lists import Structures as StructureList
from openunite.flow.random import seeded_normal
from openunite.modalities.atoms.formula import (
    allowed_sizes,
    check_sizes,
    formulas_of,
    set_elements,
)
from openunite.pipelines.asked import Asked
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.inputs import (
    Generators,
    Labels,
    Seeds,
    count_of,
    one_each,
    seeds_of,
    whole_number,
)

Sizes = Seeds  # integers
Structures = Any  # one or many `Structure`, or structures of ASE, RDKit or pymatgen
_SIZE_DRAW = 1 << 31  # random draw for the number of atoms; those of solver steps count from 0


@dataclass(frozen=True)
class AtomLatents:
    """`values` (B, N, C), one latent per atom; `mask` (B, N) says which rows stand for an atom."""

    values: Float[Tensor, "b n c"]
    mask: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return len(self.values)


class AtomPipeline(UnitePipeline):
    """Generate, encode, decode and reconstruct structures with one set of weights."""

    periodic: ClassVar[bool | None] = None  # whether structures have a cell; None: some have
    formula_repeats: ClassVar[bool] = True  # whether a structure may hold a formula several times

    def __call__(
        self,
        num_structures: int | None = None,
        *,
        num_atoms: Sizes | None = None,
        class_labels: Labels = None,
        conditions: Asked = None,
        generator: Generators | None = None,
        seeds: Seeds | None = None,
        batch_size: int = 256,
        **options: Any,
    ) -> list[Structure]:
        """Generate `num_structures` structures, or as many as there are class labels or seeds.

        Structure i is a function of its own seed, never of the batch. `num_atoms` is one number for
        all, or one for each; by default it is drawn from the sizes of the training data.
        `conditions` name values, one for all structures or a list with one for each: 4.2, (4, 5),
        "LiFePO4". A formula is kept: it decides the number of atoms (of crystals a multiple of its
        own), and elements are set to it after decoding. `options`: callback, and changes of
        `self.sampling`, see `sample_latents`. Raises ValueError for a size, a label or a value out
        of range, and for an unknown argument.
        """
        self.refuse_unknown(options, type(self).__call__)
        whole_number("batch_size", batch_size)
        count = count_of("num_structures", num_structures, class_labels, seeds, generator)
        evidence = self._evidence(class_labels, count, conditions)
        given = seeds_of(count, generator, seeds)
        if class_labels is None and conditions is None:
            evidence = self._drawn(num_atoms, given)
        formulas = formulas_of(self.encoder.config.conditions or {}, evidence)
        sizes = self._sizes(num_atoms, given, evidence, formulas)
        structures: list[Structure] = []
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            mask = _mask_of(sizes[part]).to(self._execution_device)
            latents = self.sample_latents(evidence.rows(part), given[part], mask, **options)
            output = self.detokenize(latents, mask)
            for row in range(len(output)):
                if formula := formulas.get(start + row):
                    set_elements(output[row], int(sizes[start + row]), formula, self.elements)
            structures += self._structures(output, mask)
        return StructureList(structures)

    def generate(
        self,
        class_labels: Labels,
        *,
        seeds: Seeds,
        num_atoms: Sizes | None = None,
        **options: Any,
    ) -> list[Structure]:
        """One structure per seed; `options` as for a call."""
        self.refuse_unknown(options, type(self).generate, "conditions", "batch_size")
        count = count_of("seeds", None, seeds)
        return self(count, class_labels=class_labels, seeds=seeds, num_atoms=num_atoms, **options)

    def encode(self, structures: Structures, generator: Generators | None = None) -> AtomLatents:
        """Structures -> latents, deterministic unless a generator is given.

        Takes one or many, also of ASE, RDKit or pymatgen. ValueError as from `check`.
        """
        found = self.preprocess(structures)
        batch = self._dataset(found).batch(range(len(found)))
        mask = batch.valid.to(self._execution_device)
        data = batch.data.to(self._execution_device)
        return AtomLatents(self.tokenize(data, generator, mask), mask)

    def decode(self, latents: AtomLatents) -> list[Structure]:
        """Latents -> structures. ValueError for latents that `encode` cannot return."""
        if not isinstance(latents, AtomLatents):
            kind = type(latents).__name__
            raise ValueError(f"expected AtomLatents as `encode` returns them, got a {kind}")
        mask = latents.mask.to(self._execution_device)
        sizes = mask.sum(dim=1)
        most = self.latent_shape[0]
        if tuple(mask.shape) != tuple(latents.values.shape[:2]) or mask.shape[1] > most:
            raise ValueError(
                f"expected latents (B, N, C) with a mask (B, N) and N of at most {most}, got "
                f"{tuple(latents.values.shape)} with {tuple(mask.shape)}"
            )
        if not len(sizes) or not torch.equal(mask, _mask_of(sizes, mask.shape[1])):
            raise ValueError("the mask must be True for the first atoms of each structure")
        return self._structures(self.detokenize(latents.values, mask), mask)

    def reconstruct(self, structures: Structures, batch_size: int = 256) -> list[Structure]:
        """decode(encode(structures)), in batches."""
        found = self.preprocess(structures)
        starts = range(0, len(found), whole_number("batch_size", batch_size))
        parts = [self.decode(self.encode(found[i : i + batch_size])) for i in starts]
        return [structure for part in parts for structure in part]

    def interpolate(self, first: Any, second: Any, num: int = 8) -> list[Structure]:
        """Decode `num` points on the line between two latents, ends included.

        ValueError if the numbers of atoms differ, because there is one latent per atom.
        """
        whole_number("num", num)
        ends = self.encode([first, second])
        sizes = ends.mask.sum(dim=1).tolist()
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"expected two structures with the same number of atoms, got {sizes[0]} and "
                f"{sizes[1]}; choose others"
            )
        weights = torch.linspace(0.0, 1.0, num, device=ends.values.device)[:, None, None]
        between = torch.lerp(ends.values[:1], ends.values[1:], weights)
        return self.decode(AtomLatents(between, ends.mask[:1].expand(num, -1)))

    # ---- what molecules and crystals do differently ---------------------------------------

    @property
    def draws_formulas(self) -> bool:
        """Whether a formula is drawn for each sample of which nothing is asked."""
        return False

    def _drawn(self, num_atoms: Sizes | None, seeds: Tensor) -> Evidence:
        """What samples are shown of which nothing is asked; nothing, unless a model needs it."""
        return NOTHING

    @abstractmethod
    def _dataset(self, structures: Sequence[Structure]) -> AtomDataset | JointDataset:
        """A dataset of the structures that gives batches for the model."""

    @abstractmethod
    def _structures(self, output: Tensor, mask: Tensor) -> list[Structure]:
        """The decoder's output (B, N, F) as structures."""

    # ---- inputs ---------------------------------------------------------------------------

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers that the model knows."""
        elements: tuple[int, ...] = self.modality.settings.elements
        return elements

    def _histograms(self, evidence: Evidence, count: int) -> Float[Tensor, "b s"]:
        """How often a training structure had 0, 1, 2, ... atoms, for each of `count` samples."""
        row = torch.tensor(self.config.size_histogram, dtype=torch.float64)
        return row.expand(count, -1)

    def _sizes(
        self,
        num_atoms: Sizes | None,
        seeds: Tensor,
        evidence: Evidence,
        formulas: Mapping[int, Counts],
    ) -> Int[Tensor, " b"]:
        most, count = self.latent_shape[0], len(seeds)
        if num_atoms is None:
            if not self.config.size_histogram:
                raise ValueError("this pipeline knows no sizes of training data; give num_atoms")
            rows = self._histograms(evidence, count)
            rows = allowed_sizes(rows, formulas, most, repeats=self.formula_repeats)
            shares = torch.cumsum(rows, dim=1)
            found = torch.searchsorted(
                shares / shares[:, -1:], uniform_of(seeds)[:, None], right=True
            )
            return found[:, 0].clamp_max(shares.shape[1] - 1)
        asked = self._asked_sizes(num_atoms, count)
        check_sizes(asked, formulas, repeats=self.formula_repeats)
        return torch.tensor(asked)

    def _asked_sizes(self, num_atoms: Sizes, count: int) -> list[int]:
        most = self.latent_shape[0]
        sizes = one_each("number of atoms", num_atoms, count)
        return [whole_number("num_atoms", size, 1, most) for size in sizes]

    def preprocess(self, structures: Structures) -> list[Structure]:
        """One or many structures of any package as a list. ValueError as from `check`."""
        many = not is_structure(structures) and isinstance(structures, Iterable)
        found = [structure_of(item) for item in (structures if many else [structures])]
        if not found:
            raise ValueError("expected at least one structure, got none")
        self.check(found)
        return found

    def check(self, structures: Sequence[Structure]) -> None:
        """Raise ValueError that names the first structure that this model cannot take, and why."""
        for i, structure in enumerate(structures):
            if fault := self._fault(structure):
                raise ValueError(f"{structure.name or f'structure {i}'} {fault}; leave it out")

    def _fault(self, structure: Structure) -> str:
        """What is wrong with a structure, "" for nothing."""
        most, known = self.latent_shape[0], set(self.elements)
        if not 1 <= len(structure) <= most:
            return f"has {len(structure)} atoms, this model takes 1 to {most}"
        if unknown := set(structure.numbers.tolist()) - known:
            names = ", ".join(symbol_of(number) for number in self.elements)
            return f"contains {symbol_of(min(unknown))}, this model knows {names}"
        if self.periodic is not None and self.periodic is not (structure.cell is not None):
            if self.periodic:
                return "has no cell, this model takes crystals"
            return "has a cell, this model takes molecules without one"
        if not np.isfinite(structure.positions).all():
            return "has positions that are not finite numbers"
        return "" if structure.cell is None else cell_faults(structure.cell[None])[0]


def uniform_of(seeds: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """A number from 0 to 1 for each seed, by which the size of a sample is drawn."""
    return torch.special.ndtr(seeded_normal(seeds, 1, draw=_SIZE_DRAW).double())[:, 0]


def _mask_of(sizes: Int[Tensor, " b"], longest: int | None = None) -> Bool[Tensor, "b n"]:
    most = int(sizes.max()) if longest is None else longest
    return torch.arange(most, device=sizes.device) < sizes[:, None]


def numbers_of(
    logits: Float[Tensor, "b n e"], mask: Bool[Tensor, "b n"], elements: Sequence[int]
) -> list[np.ndarray]:
    """The likeliest atomic number of each atom, one array per structure."""
    found = np.asarray(elements, dtype=np.int64)[logits.argmax(dim=-1).cpu().numpy()]
    return [row[:count] for row, count in zip(found, mask.sum(dim=1).tolist(), strict=True)]

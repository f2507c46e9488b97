"""What the pipelines of molecules and crystals share: one latent per atom, any number of atoms."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openunite.batch import Evidence
from openunite.conditions.composition import Counts
from openunite.data.atoms.dataset import AtomDataset
from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.data.joint import JointDataset
from openunite.flow.random import seeded_normal
from openunite.modalities.atoms.formula import (
    allowed_sizes,
    check_sizes,
    formulas_of,
    set_elements,
)
from openunite.pipelines.asked import Asked
from openunite.pipelines.base import Generators, Labels, UnitePipeline

_SIZE_DRAW = 1 << 31  # the draw that decides the number of atoms; solver steps count from 0


@dataclass(frozen=True)
class AtomLatents:
    """`values` (B, N, C), one latent per atom; `mask` (B, N) says which rows stand for an atom."""

    values: Float[Tensor, "b n c"]
    mask: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return len(self.values)


class AtomPipeline(UnitePipeline):
    """Generate, encode, decode and reconstruct structures with one set of weights."""

    formula_repeats: ClassVar[bool] = True  # whether a structure may hold a formula several times

    def __call__(
        self,
        num_structures: int = 1,
        *,
        num_atoms: int | Sequence[int] | None = None,
        class_labels: Labels = None,
        conditions: Asked = None,
        generator: Generators | None = None,
        seeds: Sequence[int] | None = None,
        batch_size: int = 256,
        **options: Any,
    ) -> list[Structure]:
        """Generate structures; structure i is a function of its own seed, never of the batch.

        `num_atoms` is one number for all, or one for each; by default it is drawn from the sizes
        of the training data. `conditions` name values, one for all structures or a list with one
        for each: 4.2, (4, 5), "LiFePO4". A formula that is asked for is kept: it decides the number
        of atoms (of crystals a multiple of its own), and elements are set to it after decoding.
        `options`: callback, and changes of `self.sampling`, see `sample_latents`. Raises ValueError
        for a size, a label or a value out of range.
        """
        count = num_structures if class_labels is None else len(class_labels)
        given = self._seeds(count, generator, seeds)
        evidence = self._evidence(class_labels, conditions, count)
        formulas = formulas_of(self.encoder.config.conditions or {}, evidence)
        sizes = self._sizes(num_atoms, given, evidence, formulas)
        structures: list[Structure] = []
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            mask = _mask_of(sizes[part]).to(self.device)
            latents = self.sample_latents(evidence.rows(part), given[part], mask, **options)
            output = self.detokenize(latents, mask)
            for row in range(len(output)):
                if formula := formulas.get(start + row):
                    set_elements(output[row], int(sizes[start + row]), formula, self.elements)
            structures += self._structures(output, mask)
        return structures

    def generate(
        self, class_labels: Labels, *, seeds: Sequence[int], **options: Any
    ) -> list[Structure]:
        """One structure per seed; `options` as for a call."""
        return self(len(seeds), class_labels=class_labels, seeds=seeds, **options)

    def encode(
        self, structures: Sequence[Structure], generator: Generators | None = None
    ) -> AtomLatents:
        """Structures -> latents, deterministic unless a generator is given.

        ValueError for an element the model does not know, and for too many atoms.
        """
        self.check(structures)
        batch = self._dataset(structures).batch(range(len(structures)))
        mask = batch.valid.to(self.device)
        data = batch.data.to(self.device)
        return AtomLatents(self.tokenize(data, generator, mask), mask)

    def decode(self, latents: AtomLatents) -> list[Structure]:
        """Latents -> structures."""
        mask = latents.mask.to(self.device)
        return self._structures(self.detokenize(latents.values, mask), mask)

    def reconstruct(
        self, structures: Sequence[Structure], batch_size: int = 256
    ) -> list[Structure]:
        """decode(encode(structures)), in batches."""
        starts = range(0, len(structures), batch_size)
        parts = [self.decode(self.encode(structures[i : i + batch_size])) for i in starts]
        return [structure for part in parts for structure in part]

    def interpolate(self, first: Structure, second: Structure, num: int) -> list[Structure]:
        """Decode `num` points on the line between two latents, ends included.

        ValueError if the structures differ in their number of atoms: latents go by atom.
        """
        if len(first) != len(second):
            raise ValueError(
                f"expected two structures with the same number of atoms, got {len(first)} and "
                f"{len(second)}; choose others"
            )
        ends = self.encode([first, second])
        weights = torch.linspace(0.0, 1.0, num, device=ends.values.device)[:, None, None]
        between = torch.lerp(ends.values[:1], ends.values[1:], weights)
        return self.decode(AtomLatents(between, ends.mask[:1].expand(num, -1)))

    # ---- what molecules and crystals do differently ---------------------------------------

    @abstractmethod
    def _dataset(self, structures: Sequence[Structure]) -> AtomDataset | JointDataset:
        """The structures as the model takes them."""

    @abstractmethod
    def _structures(self, output: Tensor, mask: Tensor) -> list[Structure]:
        """The decoder's output (B, N, F) as structures."""

    # ---- inputs ---------------------------------------------------------------------------

    @property
    def elements(self) -> tuple[int, ...]:
        """The atomic numbers the model knows."""
        elements: tuple[int, ...] = self.modality.settings.elements
        return elements

    def _histograms(self, evidence: Evidence, count: int) -> Float[Tensor, "b s"]:
        """How often a training structure had 0, 1, 2, ... atoms, for each of `count` samples."""
        row = torch.tensor(self.config.size_histogram, dtype=torch.float64)
        return row.expand(count, -1)

    def _sizes(
        self,
        num_atoms: int | Sequence[int] | None,
        seeds: Tensor,
        evidence: Evidence,
        formulas: Mapping[int, Counts],
    ) -> Int[Tensor, " b"]:
        most, count = self.latent_shape[0], len(seeds)
        if num_atoms is None:
            if not self.config.size_histogram:
                raise ValueError("this pipeline knows no sizes of training data; give num_atoms")
            normal = seeded_normal(seeds, 1, draw=_SIZE_DRAW).double()
            rows = self._histograms(evidence, count)
            rows = allowed_sizes(rows, formulas, most, repeats=self.formula_repeats)
            shares = torch.cumsum(rows, dim=1)
            found = torch.searchsorted(
                shares / shares[:, -1:], torch.special.ndtr(normal), right=True
            )
            return found[:, 0].clamp_max(shares.shape[1] - 1)
        sizes = [num_atoms] * count if isinstance(num_atoms, int) else list(num_atoms)
        if len(sizes) != count:
            raise ValueError(
                f"expected one number of atoms per structure, {count}, got {len(sizes)}"
            )
        if bad := [n for n in sizes if not 1 <= n <= most]:
            raise ValueError(
                f"num_atoms must lie between 1 and {most} for this model, got {bad[0]}"
            )
        check_sizes(sizes, formulas, repeats=self.formula_repeats)
        return torch.tensor(sizes)

    def check(self, structures: Sequence[Structure]) -> None:
        """ValueError names the first structure that this model cannot take, and why."""
        most, known = self.latent_shape[0], set(self.elements)
        for i, structure in enumerate(structures):
            name = structure.name or f"structure {i}"
            if not 1 <= len(structure) <= most:
                raise ValueError(
                    f"{name} has {len(structure)} atoms, this model takes 1 to {most}; leave it out"
                )
            if unknown := set(structure.numbers.tolist()) - known:
                names = ", ".join(symbol_of(number) for number in self.elements)
                raise ValueError(
                    f"{name} contains {symbol_of(min(unknown))}, this model knows {names}; "
                    "leave it out"
                )


def _mask_of(sizes: Int[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    return torch.arange(int(sizes.max())) < sizes[:, None]


def numbers_of(
    logits: Float[Tensor, "b n e"], mask: Bool[Tensor, "b n"], elements: Sequence[int]
) -> list[np.ndarray]:
    """The likeliest atomic number of each atom, one array per structure."""
    found = np.asarray(elements, dtype=np.int64)[logits.argmax(dim=-1).cpu().numpy()]
    return [row[:count] for row, count in zip(found, mask.sum(dim=1).tolist(), strict=True)]

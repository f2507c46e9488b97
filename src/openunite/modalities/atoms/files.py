"""Reading and writing of molecules and crystals for a trained model."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from openunite.data.atoms.arrays import Reading
from openunite.data.atoms.convert import is_structure, structure_of
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.tensors import pad_structures, unpad_structures
from openunite.data.atoms.write import WRITERS, write_structures
from openunite.data.holdout import Skipped
from openunite.drawing.structures import pair_structures, structure_grid
from openunite.evaluation.pairs import kabsch_rmsd, type_accuracy
from openunite.files import atomic_file
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.optional import optional
from openunite.task import Task, Tell


class AtomFiles(Task):
    """The part of the task of molecules and crystals that reads and writes files."""

    outputs = (".png", *WRITERS)
    pair_outputs = outputs

    def read(
        self, pipeline: AtomPipeline, sources: Sequence[str], tell: Tell
    ) -> Iterator[tuple[str, Structure]]:
        """Names and structures that the model can take. ValueError if there are none."""
        found = False
        for item in chain.from_iterable(self.records(source) for source in sources):
            if isinstance(item, Skipped):
                tell(item.name, item.reason)
                continue
            try:
                pipeline.check([item])
            except ValueError as error:
                tell(item.name, str(error))
                continue
            found = True
            yield item.name, item
        if not found:
            raise ValueError(f"nothing in {', '.join(sources)} can be encoded by this model")

    def is_item(self, value: Any) -> bool:
        return is_structure(value)

    def item(self, value: Any) -> Structure:
        """The `Structure` of `value`, which may be an object of ASE, RDKit or pymatgen."""
        return structure_of(value)

    @abstractmethod
    def records(self, source: str) -> Iterator[Structure | Skipped]:
        """The records of a file or a folder."""

    def reconstruct(
        self, pipeline: AtomPipeline, items: Sequence[Structure]
    ) -> tuple[list[Structure], list[Structure]]:
        return list(items), pipeline.reconstruct(items)

    def latents(self, pipeline: AtomPipeline, items: Sequence[Structure]) -> dict[str, np.ndarray]:
        """Latents of all atoms, one structure after the other, and the sizes of the structures."""
        found = pipeline.encode(items)
        values = found.values[found.mask].float().cpu().numpy()
        return {"latents": values, "num_atoms": np.array([len(item) for item in items])}

    def write(
        self, path: Path, samples: Collection[Structure], labels: Sequence[int] | None = None
    ) -> int:
        if path.suffix.lower() != ".png":
            return write_structures(path, samples)
        with atomic_file(path) as file:
            structure_grid(list(samples), min(8, len(samples))).save(file, "PNG")
        return len(samples)

    def pack(self, samples: Sequence[Structure]) -> dict[str, Tensor]:
        return pad_structures(samples)

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Structure]:
        return unpad_structures(tensors)

    def write_pairs(
        self,
        path: Path,
        names: Sequence[str],
        inputs: Sequence[Structure],
        outputs: Sequence[Structure],
    ) -> None:
        """Write a picture of inputs above outputs, or the outputs with the names of the inputs."""
        if path.suffix.lower() == ".png":
            with atomic_file(path) as file:
                pair_structures(inputs, outputs).save(file, "PNG")
            return
        check_kinds({kind_of(item) for item in inputs}, path.suffix.lower())
        named = [replace(out, name=item.name) for out, item in zip(outputs, inputs, strict=True)]
        write_structures(path, named)

    def compare(self, inputs: Sequence[Structure], outputs: Sequence[Structure]) -> str:
        right = type_accuracy(outputs, inputs, "structure")["atom_type_accuracy"].value
        text = f"{100 * right:.1f} % of the elements right"
        if all(item.cell is None for item in inputs):
            text += f", RMSD {kabsch_rmsd(outputs, inputs).mean():.3f} A"
        return text

    def check_output(self, pipeline: AtomPipeline, suffix: str) -> None:
        check_kinds([self.things], suffix)
        if suffix == ".sdf":
            optional("rdkit.Chem", "molecules", "writing an .sdf")


def kind_of(structure: Structure) -> str:
    """ "crystals" for a structure with a cell, else "molecules"."""
    return "molecules" if structure.cell is None else "crystals"


def check_kinds(kinds: Iterable[str], suffix: str) -> None:
    """Raise ValueError if a file with this suffix cannot hold one of the kinds of structures."""
    if suffix == ".cif" and "molecules" in kinds:
        raise ValueError("molecules have no cell to write into a .cif; choose .sdf or .xyz")
    if suffix == ".sdf" and "crystals" in kinds:
        raise ValueError("crystals cannot be written into an .sdf; choose .cif or .xyz")


def records_of(reading: Reading) -> Iterator[Structure | Skipped]:
    """All records of a reading: those that could not be read, then the structures."""
    yield from reading.skipped
    yield from reading.structures

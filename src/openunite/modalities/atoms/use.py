"""`openunite sample`, `reconstruct` and `encode` for molecules and crystals."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from openunite.commands import Encode, Reconstruct, Sample
from openunite.data.atoms.arrays import Reading
from openunite.data.atoms.files import files_in, kind_of
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.write import WRITERS, write_structures
from openunite.data.atoms.xyz import read_xyz
from openunite.data.crystals.readers import KINDS as CRYSTALS
from openunite.data.crystals.readers import read_crystals, without_tables
from openunite.data.holdout import Skipped
from openunite.data.molecules.readers import KINDS as MOLECULES
from openunite.data.molecules.readers import read_molecules
from openunite.drawing.structures import pair_structures, structure_grid
from openunite.evaluation.molecules.reconstruction import kabsch_rmsd, type_accuracy
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.crystal.pipeline import CrystalPipeline
from openunite.modalities.joint.pipeline import JointPipeline
from openunite.modalities.joint.tokens import CLASS_NAMES
from openunite.optional import optional
from openunite.texts import printable

OUTPUTS = (".png", *WRITERS)
_HOLDS = {".cif": ("crystals",), ".sdf": ("molecules",)}  # an .xyz holds both


def sample(command: Sample, pipeline: AtomPipeline, output: Path) -> None:
    """Generate structures into one file, or into a picture."""
    suffix = output.suffix.lower()
    labels = _labels(command, pipeline, suffix)
    _require_writer(suffix)
    structures: list[Structure] = []
    starts = range(0, command.num_images, command.batch_size)
    for start in tqdm(starts, desc="sampling", unit="batch", disable=len(starts) < 2):
        stop = min(start + command.batch_size, command.num_images)
        structures += pipeline(
            stop - start,
            class_labels=labels and labels[start:stop],
            num_atoms=command.num_atoms,
            seeds=range(command.seed + start, command.seed + stop),
            guidance_scale=command.guidance_scale,
            num_inference_steps=command.num_inference_steps,
            solver=command.solver,
        )
    count = len(structures)
    if suffix == ".png":
        structure_grid(structures, min(8, count)).save(output)
    else:
        count = write_structures(output, structures)
    print(f"{count} structures -> {output}")


def _labels(command: Sample, pipeline: AtomPipeline, suffix: str) -> list[str] | None:
    """The class of each sample: as asked, else what the file can hold, in turn.

    ValueError if the file cannot hold what the model makes.
    """
    crystals = isinstance(pipeline, CrystalPipeline)
    kinds = command.classes or ("crystals" if crystals else "molecules",)
    if isinstance(pipeline, JointPipeline):
        kinds = command.classes or _HOLDS.get(suffix, CLASS_NAMES)
    elif command.classes:
        raise ValueError(f"this model makes {kinds[0]} without classes; leave --classes out")
    _check_kinds(kinds, suffix)
    if not isinstance(pipeline, JointPipeline):
        return None
    return [kinds[i % len(kinds)] for i in range(command.num_images)]


def _check_kinds(kinds: Iterable[str], suffix: str) -> None:
    if suffix == ".cif" and "molecules" in kinds:
        raise ValueError("molecules have no cell to write into a .cif; choose .sdf or .xyz")
    if suffix == ".sdf" and "crystals" in kinds:
        raise ValueError("crystals cannot be written into an .sdf; choose .cif or .xyz")


def _require_writer(suffix: str) -> None:
    if suffix == ".sdf":
        optional("rdkit.Chem", "molecules", "writing an .sdf")


def reconstruct(command: Reconstruct, pipeline: AtomPipeline, output: Path) -> None:
    """Inputs above outputs, or outputs under the names of the inputs; how far they are apart."""
    suffix = output.suffix.lower()
    _require_writer(suffix)
    inputs = _usable(pipeline, command.images)[: command.num_images]
    _check_kinds({CLASS_NAMES[item.cell is not None] for item in inputs}, suffix)
    outputs = pipeline.reconstruct(inputs)
    if suffix == ".png":
        pair_structures(inputs, outputs).save(output)
    else:
        named = [replace(out, name=item.name) for out, item in zip(outputs, inputs, strict=True)]
        write_structures(output, named)
    types = type_accuracy(outputs, inputs).atoms.value
    far = ""
    if all(item.cell is None for item in inputs):
        far = f", RMSD {kabsch_rmsd(outputs, inputs).mean():.3f} A"
    print(f"{len(inputs)} structures, {100 * types:.1f} % of the elements right{far} -> {output}")


def encode(command: Encode, pipeline: AtomPipeline, output: Path) -> None:
    """An .npz with the latents of all atoms, one after the other, and each structure's number."""
    structures = _usable(pipeline, command.images)
    parts: list[np.ndarray] = []
    for start in range(0, len(structures), command.batch_size):
        latents = pipeline.encode(structures[start : start + command.batch_size])
        parts.append(latents.values[latents.mask].float().cpu().numpy())
    array = np.concatenate(parts)
    sizes = np.array([len(structure) for structure in structures])
    names = np.array([structure.name for structure in structures])
    np.savez(output, latents=array, num_atoms=sizes, names=names)
    print(f"{len(structures)} structures -> latents {array.shape} in {output}")


def _usable(pipeline: AtomPipeline, sources: Sequence[str]) -> list[Structure]:
    """All structures the model can take; the others are named on stderr."""
    found: list[Structure] = []
    for structure in _read(pipeline, sources):
        try:
            pipeline.check([structure])
        except ValueError as error:
            print(printable(f"skipped {error}"), file=sys.stderr)
        else:
            found.append(structure)
    if not found:
        raise ValueError(f"nothing in {', '.join(sources)} can be encoded by this model")
    return found


def _read(pipeline: AtomPipeline, sources: Sequence[str]) -> Iterator[Structure]:
    for item in chain.from_iterable(_items(pipeline, source) for source in sources):
        if isinstance(item, Structure):
            yield item
        else:
            print(printable(f"skipped {item.name}: {item.reason}"), file=sys.stderr)


def _items(pipeline: AtomPipeline, source: str) -> Iterator[Structure | Skipped]:
    """By the model; for one of both kinds, file by file: an xyz file may hold either."""
    if not isinstance(pipeline, JointPipeline):
        crystals = isinstance(pipeline, CrystalPipeline)
        yield from _records(read_crystals if crystals else read_molecules, source)
        return
    path = Path(source)
    files = [path]
    if path.is_dir():
        files = without_tables(files_in(path, (*CRYSTALS, *MOLECULES)))
    for file in files:
        kind = kind_of(file)
        if kind in CRYSTALS and kind in MOLECULES:
            yield from read_xyz(file)
        else:
            yield from _records(read_crystals if kind in CRYSTALS else read_molecules, file)


def _records(read: Callable[[Any], Reading], source: str | Path) -> Iterator[Structure | Skipped]:
    reading = read(source)
    yield from reading.skipped
    yield from reading.structures

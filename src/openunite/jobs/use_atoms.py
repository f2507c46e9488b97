"""`openunite sample`, `reconstruct` and `encode` for molecules and crystals."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from openunite.commands import Encode, Reconstruct, Sample
from openunite.evaluation.molecules.reconstruction import kabsch_rmsd, type_accuracy
from openunite.evaluation.structure_pictures import pair_structures, structure_grid
from openunite.modalities.atoms.cif import write_cif
from openunite.modalities.atoms.convert import write_sdf
from openunite.modalities.atoms.structure import Structure
from openunite.modalities.atoms.xyz import write_xyz
from openunite.modalities.crystal.readers import read_crystals
from openunite.modalities.molecule.readers import read_molecules
from openunite.pipelines.atoms import AtomPipeline
from openunite.pipelines.crystal import CrystalPipeline

WRITERS = {".xyz": write_xyz, ".extxyz": write_xyz, ".sdf": write_sdf, ".cif": write_cif}
OUTPUTS = (".png", *WRITERS)


def sample(command: Sample, pipeline: AtomPipeline, output: Path) -> None:
    """Generate structures into one file, or into a picture."""
    if output.suffix.lower() == ".cif" and not isinstance(pipeline, CrystalPipeline):
        raise ValueError(f"molecules have no cell to write into {output}; choose .sdf or .xyz")
    if output.suffix.lower() == ".sdf" and isinstance(pipeline, CrystalPipeline):
        raise ValueError(f"crystals cannot be written into {output}; choose .cif or .xyz")
    structures: list[Structure] = []
    starts = range(0, command.num_images, command.batch_size)
    for start in tqdm(starts, desc="sampling", unit="batch", disable=len(starts) < 2):
        stop = min(start + command.batch_size, command.num_images)
        structures += pipeline(
            stop - start,
            num_atoms=command.num_atoms,
            seeds=range(command.seed + start, command.seed + stop),
            guidance_scale=command.guidance_scale,
            num_inference_steps=command.num_inference_steps,
            solver=command.solver,
        )
    if output.suffix.lower() == ".png":
        structure_grid(structures, min(8, len(structures))).save(output)
    else:
        WRITERS[output.suffix.lower()](output, structures)
    print(f"{len(structures)} structures -> {output}")


def reconstruct(command: Reconstruct, pipeline: AtomPipeline, output: Path) -> None:
    """Inputs above outputs, and how far they are apart."""
    inputs = _usable(pipeline, command.images)[: command.num_images]
    outputs = pipeline.reconstruct(inputs)
    pair_structures(inputs, outputs).save(output)
    types = type_accuracy(outputs, inputs).atoms.value
    far = ""
    if not isinstance(pipeline, CrystalPipeline):
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
            print(f"skipped {error}", file=sys.stderr)
        else:
            found.append(structure)
    if not found:
        raise ValueError(f"nothing in {', '.join(sources)} can be encoded by this model")
    return found


def _read(pipeline: AtomPipeline, sources: Sequence[str]) -> Iterator[Structure]:
    for source in sources:
        read = read_crystals if isinstance(pipeline, CrystalPipeline) else read_molecules
        reading = read(source)
        for item in reading.skipped:
            print(f"skipped {item.name}: {item.reason}", file=sys.stderr)
        yield from reading.structures

"""Molecules from any source: QM9, SDF, xyz, npz, folders, lists of ASE Atoms."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openunite.cache import cache_folder
from openunite.data.atoms.arrays import Reading, load_arrays
from openunite.data.atoms.convert import structure_of
from openunite.data.atoms.files import (
    UNREADABLE,
    collect,
    collect_files,
    files_in,
    kind_of,
)
from openunite.data.atoms.foreign import read_foreign
from openunite.data.atoms.sdf import read_sdf
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import read_xyz
from openunite.data.holdout import Skipped
from openunite.data.molecules.qm9 import read_qm9
from openunite.data.readers import reader_of, readers_of

KINDS = (".sdf", ".sd", ".mol", ".xyz", ".extxyz")
MoleculeSource = str | Path | Sequence[Any]


def read_molecules(
    source: MoleculeSource, *, cache_dir: str | Path | None = None, progress: bool = True
) -> Reading:
    """Read all molecules of a source; positions are float32 in Angstrom, not centered.

    A source is "qm9" (the package qm9pack), an .npz with `n_atoms`, `z` and `pos`, an SDF, mol,
    xyz or extended xyz file (perhaps .gz), a folder of these, or a list of ASE Atoms or
    `Structure`s. A folder with train and test (and val) files or folders keeps that split.
    Records that cannot be read are in `skipped`. ValueError, FileNotFoundError or ImportError say
    in one sentence why a source cannot be used.
    """
    if isinstance(source, str) and source == "qm9":
        return Reading("qm9", read_qm9(cache_folder(cache_dir), progress))
    if not isinstance(source, str | Path):
        items = map(_molecule, source, range(len(source)))
        return collect("molecules in memory", items, "molecules", np.float32)
    path = Path(source).expanduser()
    if path.is_dir():
        files, kinds = files_in(path, KINDS, "molecules"), (*KINDS, *readers_of("molecules"))
        return collect_files(path, kinds, files, _read_file, "molecules", np.float32, progress)
    if not path.is_file():
        raise FileNotFoundError(f"no molecules at {path}; give an existing file or folder, or qm9")
    if kind_of(path) == ".npz":
        arrays = load_arrays(path)
        if not len(arrays) or arrays.cells is not None:
            other = "crystals (it has 'cell')" if arrays.cells is not None else "none"
            raise ValueError(f"{path}: expected molecules, got {other}; give a file that has some")
        return Reading(path.stem, replace(arrays, positions=arrays.positions.astype(np.float32)))
    if kind_of(path) not in KINDS and reader_of(path, "molecules") is None:
        raise ValueError(
            f"expected molecules as {', '.join(KINDS)} or .npz, got {path}; convert the file "
            f"first, for instance: ase convert {path} {path.with_suffix('.xyz')}"
        )
    return collect(path.name.split(".")[0], _read_file(path), "molecules", np.float32)


def _read_file(path: Path) -> Iterable[Structure | Skipped]:
    reader = reader_of(path, "molecules")
    if kind_of(path) not in KINDS and reader is not None:
        yield from map(_without_cell, read_foreign(reader, path))
        return
    try:
        found = read_xyz(path) if kind_of(path) in (".xyz", ".extxyz") else read_sdf(path)
        for item in found:
            yield _without_cell(item)
    except UNREADABLE as error:
        yield Skipped(path.name, f"cannot be read: {error}")


def _without_cell(item: Structure | Skipped) -> Structure | Skipped:
    if isinstance(item, Structure) and item.cell is not None:
        return Skipped(
            item.name,
            'has a periodic cell, expected a molecule; if it is only a box, write pbc="F F F"',
        )
    return item


def _molecule(item: Any, i: int) -> Structure | Skipped:
    """Item i of a list as a molecule; a `Skipped` says why it is none."""
    try:
        found = structure_of(item)
    except ValueError as error:
        return Skipped(f"molecule {i}", str(error))
    return _without_cell(replace(found, name=found.name or f"molecule {i}"))

"""Molecules from any source: QM9, SDF, xyz, npz, folders, lists of ASE Atoms."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openunite.cache import cache_folder
from openunite.data.atoms.arrays import Reading, load_arrays
from openunite.data.atoms.files import Kind, read_list, read_path, suffix_of
from openunite.data.atoms.sdf import read_sdf
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import read_xyz
from openunite.data.holdout import Skipped
from openunite.data.molecules.qm9 import read_qm9

KINDS = (".sdf", ".sd", ".mol", ".extxyz", ".xyz")
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
        return read_list(_MOLECULES, source)
    path = Path(source).expanduser()
    if not (path.is_dir() or path.is_file()):
        raise FileNotFoundError(f"no molecules at {path}; give an existing file or folder, or qm9")
    if path.is_file() and suffix_of(path) == ".npz":
        return _read_npz(path)
    return read_path(_MOLECULES, path, progress)


def _read_npz(path: Path) -> Reading:
    arrays = load_arrays(path)
    if not len(arrays) or arrays.cells is not None:
        other = "crystals (it has 'cell')" if arrays.cells is not None else "none"
        raise ValueError(f"{path}: expected molecules, got {other}; give a file that has some")
    return Reading(path.stem, replace(arrays, positions=arrays.positions.astype(np.float32)))


def _read_file(path: Path) -> Iterator[Structure | Skipped]:
    return read_xyz(path) if suffix_of(path) in (".xyz", ".extxyz") else read_sdf(path)


def _fault(structure: Structure) -> str:
    if structure.cell is None:
        return ""
    return 'has a periodic cell, expected a molecule; if it is only a box, write pbc="F F F"'


_MOLECULES = Kind("molecules", KINDS, (".npz",), np.float32, _read_file, _fault)

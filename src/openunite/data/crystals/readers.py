"""Crystals from any source: CSV with CIFs, CIF folders, xyz, npz, lists, packaged sets."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.arrays import (
    Reading,
    StructureArrays,
    atom_counts,
    load_arrays,
    offsets_of,
    pack,
    rows_of,
    stored_columns,
)
from openunite.data.atoms.cif import read_cif
from openunite.data.atoms.convert import from_dict
from openunite.data.atoms.files import (
    Kind,
    files_in,
    open_text,
    read_list,
    read_path,
    suffix_of,
    text_of,
    unzipped,
)
from openunite.data.atoms.lattice import cell_from_parameters
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import read_xyz
from openunite.data.crystals.packaged import PACKAGED
from openunite.data.holdout import Skipped
from openunite.files import read_npz
from openunite.progress import bar

KINDS = (".cif", ".csv", ".xyz", ".extxyz")
CrystalSource = str | Path | Sequence[Any]
_COLUMNS = ("cif", "cif_str", "structure")  # columns with crystals, best first; case is ignored
_LONGEST_INFO = 200  # characters in a column that is kept beside a structure
_LONGEST_FIELD = 1 << 27  # characters in a field of a CSV file; the default is too short for CIFs


def read_crystals(
    source: CrystalSource, *, max_e_above_hull: float | None = None, progress: bool = True
) -> Reading:
    """Read all crystals of a source without changing their cells.

    A source is an .npz (see below), a table (.csv, divided by comma, semicolon or tab) whose column
    `cif`, `cif_str` or `structure` holds CIFs or the JSON of pymatgen, a CIF or extended xyz file
    (perhaps .gz), a folder or .zip of these, a list of pymatgen Structures, periodic ASE Atoms or
    `Structure`s, or "jarvis", "prototypes" or "quickstart-crystals" (see `packaged.py`). A folder
    with train and test (and val) files or folders keeps that split. `max_e_above_hull` leaves out
    the rows of CSV and .npz files with a larger `e_above_hull` (eV per atom). Records that cannot
    be read, and rows without that value, are in `skipped`. ValueError, FileNotFoundError or
    ImportError say in one sentence why a source cannot be used.

    An .npz holds `n_atoms` (S,), `z` (A,), `lattice` (S, 6) as a, b, c (Angstrom), alpha, beta,
    gamma (degrees), `frac` (A, 3) and perhaps `ids` and `e_above_hull` (S,); or it was written by
    `StructureArrays.save`.
    """
    if isinstance(source, str) and source in PACKAGED:
        _refuse_limit(source, max_e_above_hull)
        return PACKAGED[source](progress)
    if not isinstance(source, str | Path):
        _refuse_limit("a list", max_e_above_hull)
        return read_list(_crystals(None, False), source)
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_path(path, max_e_above_hull, progress)
    if not path.is_file():
        raise FileNotFoundError(
            f"no crystals at {path}; give an existing path or one of {', '.join(PACKAGED)}"
        )
    if suffix_of(path) == ".npz":
        return _read_npz(path, max_e_above_hull)
    if suffix_of(path) == ".zip":
        with unzipped(path) as folder:
            return replace(_read_path(folder, max_e_above_hull, progress), name=path.stem)
    return _read_path(path, max_e_above_hull, progress)


def _read_path(path: Path, limit: float | None, progress: bool) -> Reading:
    if limit is not None:
        for file in files_in(path, KINDS, "crystals") if path.is_dir() else [path]:
            if suffix_of(file) != ".csv":
                _refuse_limit(str(file), limit)
    return read_path(_crystals(limit, progress and path.is_file()), path, progress)


def _refuse_limit(source: str, max_e_above_hull: float | None) -> None:
    if max_e_above_hull is not None:
        raise ValueError(f"{source} has no e_above_hull; leave out max_e_above_hull")


def _crystals(limit: float | None, progress: bool) -> Kind:
    """How crystals are read; `limit` and `progress` are for the rows of a table."""

    def read(path: Path) -> Iterator[Structure | Skipped]:
        if suffix_of(path) == ".csv":
            return _read_csv(path, limit, progress)
        return read_cif(text_of(path), path.name) if suffix_of(path) == ".cif" else read_xyz(path)

    return Kind("crystals", KINDS, (".npz", ".zip"), np.float64, read, _fault)


def _fault(structure: Structure) -> str:
    return "has no periodic cell, expected a crystal" if structure.cell is None else ""


def _read_csv(path: Path, limit: float | None, progress: bool) -> Iterator[Structure | Skipped]:
    """The crystals of a table such as MP-20's; their names give the line of their row."""
    csv.field_size_limit(_LONGEST_FIELD)
    with open_text(path) as file:
        reader = csv.DictReader(file, delimiter=_delimiter(path))
        columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
        column = next((columns[key] for key in _COLUMNS if key in columns), "")
        for key, found in (("cif", column), ("e_above_hull", columns.get("e_above_hull", ""))):
            if not found and (key == "cif" or limit is not None):
                raise ValueError(
                    f"{path}: expected a column {key!r}, got {', '.join(columns) or 'none'}; "
                    "rename the one that holds it"
                )
        line = reader.line_num + 1
        for row in bar(reader, path.name, disable=None if progress else True):
            label = row.get("material_id")
            name = f"{path.name}, line {line}" + (f" ({label})" if label else "")
            line = reader.line_num + 1
            energy = 0.0 if limit is None else _number(row[columns["e_above_hull"]])
            if np.isnan(energy):
                yield Skipped(name, "has no e_above_hull")
            elif limit is None or energy <= limit:
                item = _cell(row[column] or "", name)
                yield replace(item, info=_info(row)) if isinstance(item, Structure) else item


def _info(row: dict[str, Any]) -> dict[str, str]:
    """The short columns of a row: long ones are structures."""
    found = ((name, text) for name, text in row.items() if isinstance(name, str))
    return {name: text for name, text in found if text and len(text) <= _LONGEST_INFO}


def _delimiter(path: Path) -> str:
    """The delimiter that occurs most often in the first line of a table."""
    with open_text(path) as file:
        header = file.readline(_LONGEST_FIELD)
    return max(",;\t", key=header.count)


def _cell(text: str, name: str) -> Structure | Skipped:
    """The crystal in a cell of a table: CIF, perhaps with escaped line breaks, or JSON."""
    if text.lstrip().startswith("{"):
        try:
            return from_dict(json.loads(text), name)
        except (ValueError, RecursionError) as error:
            return Skipped(name, str(error))
    if "\n" not in text.strip():
        text = text.replace("\\n", "\n")
    found = list(read_cif(text, name))
    if len(found) != 1:
        return Skipped(name, f"expected one crystal in the CIF, got {len(found)}")
    return found[0]


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _read_npz(path: Path, limit: float | None) -> Reading:
    found = read_npz(path)
    arrays = _from_parameters(found, path) if "frac" in found else load_arrays(path)
    if arrays.cells is None:
        raise ValueError(f"{path} needs 'lattice' and 'frac', or 'cell' and 'pos', for crystals")
    skipped: tuple[Skipped, ...] = ()
    if limit is not None:
        energies = rows_of(found, "e_above_hull", (len(arrays),), path)
        unknown = np.flatnonzero(np.isnan(energies)).tolist()
        skipped = tuple(Skipped(arrays.names[i], "has no e_above_hull") for i in unknown)
        arrays = pack([arrays[i] for i in np.flatnonzero(energies <= limit).tolist()])
    if not len(arrays):
        raise ValueError(f"{path} has no crystals; give a file that has some")
    return Reading(path.stem, arrays, skipped)


def _from_parameters(found: dict[str, NDArray[Any]], path: Path) -> StructureArrays:
    """The layout with six lattice parameters and fractional coordinates."""
    sizes, numbers = atom_counts(found, path)
    lattice = rows_of(found, "lattice", (len(sizes), 6), path)
    fractional = rows_of(found, "frac", (len(numbers), 3), path).astype(np.float64)
    cells = cell_from_parameters(lattice)
    positions = np.einsum("ak,akl->al", fractional, np.repeat(cells, sizes, axis=0))
    names = [f"{path.name}, record {i}" for i in range(1, len(sizes) + 1)]
    if "ids" in found and found["ids"].shape == (len(sizes),):
        names = [f"{name} ({label})" for name, label in zip(names, found["ids"], strict=True)]
    columns = stored_columns(found, len(sizes))
    return StructureArrays(numbers, positions, offsets_of(sizes), tuple(names), cells, columns)

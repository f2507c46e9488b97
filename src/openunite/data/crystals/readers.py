"""Crystals from any source: CSV with CIFs, CIF folders, xyz, npz, lists, packaged sets."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
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
)
from openunite.data.atoms.cif import read_cif
from openunite.data.atoms.convert import from_dict, structure_of
from openunite.data.atoms.files import (
    UNREADABLE,
    collect,
    collect_files,
    files_in,
    kind_of,
    open_text,
    text_of,
    unzipped,
)
from openunite.data.atoms.foreign import read_foreign
from openunite.data.atoms.lattice import cell_from_parameters
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import read_xyz
from openunite.data.crystals.packaged import PACKAGED
from openunite.data.holdout import Skipped
from openunite.data.readers import reader_of, readers_of
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
        items = map(_crystal, source, range(len(source)))
        return collect("crystals in memory", items, "crystals", np.float64)
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_folder(path, max_e_above_hull, progress)
    if not path.is_file():
        raise FileNotFoundError(
            f"no crystals at {path}; give an existing path or one of {', '.join(PACKAGED)}"
        )
    if kind_of(path) == ".npz":
        return _read_npz(path, max_e_above_hull)
    if kind_of(path) == ".zip":
        with unzipped(path) as folder:
            return replace(_read_folder(folder, max_e_above_hull, progress), name=path.stem)
    if kind_of(path) not in KINDS and reader_of(path, "crystals") is None:
        raise ValueError(
            f"expected crystals as {', '.join(KINDS)}, .npz or .zip, got {path}; convert the file "
            f"first, for instance: ase convert {path} {path.with_suffix('.extxyz')}"
        )
    records = _read_file(path, max_e_above_hull, progress)
    return collect(path.name.split(".")[0], records, "crystals", np.float64)


def _refuse_limit(source: str, max_e_above_hull: float | None) -> None:
    if max_e_above_hull is not None:
        raise ValueError(f"{source} has no e_above_hull; leave out max_e_above_hull")


def without_tables(files: list[Path]) -> list[Path]:
    """The files of a folder that hold structures: tables beside CIFs hold properties."""
    if any(kind_of(path) == ".cif" for path in files):
        return [path for path in files if kind_of(path) != ".csv"]
    return files


def _read_folder(folder: Path, limit: float | None, progress: bool) -> Reading:
    files = without_tables(files_in(folder, KINDS, "crystals"))
    kinds = (*KINDS, *readers_of("crystals"))
    read = partial(_read_file, limit=limit, progress=False)
    return collect_files(folder, kinds, files, read, "crystals", np.float64, progress)


def _read_file(path: Path, limit: float | None, progress: bool) -> Iterator[Structure | Skipped]:
    kind = kind_of(path)
    try:
        if kind == ".csv":
            yield from _read_csv(path, limit, progress)
            return
        _refuse_limit(str(path), limit)
        reader = reader_of(path, "crystals")
        if kind == ".cif":
            found: Iterable[Structure | Skipped] = read_cif(text_of(path), path.name)
        elif kind not in KINDS and reader is not None:
            found = read_foreign(reader, path)
        else:
            found = read_xyz(path)
        for item in found:
            yield _with_cell(item)
    except (*UNREADABLE, csv.Error) as error:
        yield Skipped(path.name, f"cannot be read: {error}")


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
    return StructureArrays(numbers, positions, offsets_of(sizes), tuple(names), cells)


def _with_cell(item: Structure | Skipped) -> Structure | Skipped:
    if isinstance(item, Structure) and item.cell is None:
        return Skipped(item.name, "has no periodic cell, expected a crystal")
    return item


def _crystal(item: Any, i: int) -> Structure | Skipped:
    """Item i of a list as a crystal; a `Skipped` says why it is none."""
    name = f"crystal {i}"
    try:
        found = structure_of(item)
    except ValueError as error:
        return Skipped(name, str(error))
    return _with_cell(replace(found, name=found.name or name))

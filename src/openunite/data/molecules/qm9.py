"""Read all of QM9 from the PyPI package qm9pack; it is parsed once and cached."""

import csv
import re
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from openunite.data.atoms.arrays import Columns, StructureArrays, load_arrays, offsets_of
from openunite.data.atoms.elements import atomic_number
from openunite.optional import file_of
from openunite.progress import bar

NUM_MOLECULES = 130_831
# Text, lists, and what is already in the atoms; everything else is a number of each molecule.
_NO_NUMBERS = frozenset(
    [
        "XYZ_file",
        "Index",
        "SMILES",
        "InChi",
        "N_atoms",
        "Stoichiometry",
        "Elements",
        "XYZ_Ang",
        "Mulliken_pop",
        "Harmonic_Freq_cmi",
    ]
)
_FILES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")


def read_qm9(cache_dir: Path, progress: bool = True) -> StructureArrays:
    """All molecules in the order of their QM9 numbers, positions float32; cached as an .npz.

    ImportError if qm9pack is not installed; ValueError if its files are not what they should be.
    """
    # Found without an import: the package needs pkg_resources, gone from setuptools.
    files = [file_of("qm9pack", f"data/{name}", "molecules", "qm9pack") for name in _FILES]
    size = sum(path.stat().st_size for path in files)
    cached = cache_dir / f"qm9pack-columns-{size}.npz"
    if cached.is_file():
        try:
            return load_arrays(cached)
        except ValueError:  # a broken cache is written again below
            pass
    molecules = parse_qm9(files, progress)
    if len(molecules) != NUM_MOLECULES:
        raise ValueError(
            f"{files[0].parent} holds {len(molecules)} molecules, expected {NUM_MOLECULES}; "
            "install qm9pack again"
        )
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        molecules.save(cached)
    except OSError as error:  # the cache only saves time
        warnings.warn(f"cannot write the cache {cached} ({error})", stacklevel=2)
    return molecules


def parse_qm9(files: list[Path], progress: bool) -> StructureArrays:
    """Molecules from the columns Index, Elements and XYZ_Ang (Angstrom) of the package's files.

    Their properties, such as HOMO_LUMO_gap_au, are the columns of the result.
    """
    names, sizes = [], []
    columns: dict[str, array[float]] = {}
    numbers, coordinates = array("B"), array("f")  # lists of floats would take ten times more
    rows = bar(_rows(files), "qm9", NUM_MOLECULES, disable=None if progress else True)
    for where, row in rows:
        symbols = re.findall(r"[A-Z][a-z]?", row["Elements"])
        # float() accepts "0.", which JSON does not.
        values = row["XYZ_Ang"].replace("[", "").replace("]", "").split(",")
        if len(values) != 3 * len(symbols) or not symbols:
            raise ValueError(
                f"{where}: {len(symbols)} elements but {len(values)} coordinates; install qm9pack "
                "again"
            )
        for name in row.keys() - _NO_NUMBERS:
            columns.setdefault(name, array("d")).append(float(row[name]))
        names.append(f"qm9 {row['Index']}")
        sizes.append(len(symbols))
        numbers.extend(map(atomic_number, symbols))
        coordinates.extend(map(float, values))
    return StructureArrays(
        np.array(numbers, dtype=np.uint8),
        np.array(coordinates, dtype=np.float32).reshape(-1, 3),
        offsets_of(sizes),
        tuple(names),
        infos=Columns({name: np.array(values) for name, values in sorted(columns.items())}),
    )


def _rows(files: list[Path]) -> Iterator[tuple[str, dict[str, str]]]:
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for row in reader:
                yield f"{path.name}, line {reader.line_num}", row

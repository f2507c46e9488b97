"""Read and write xyz and extended xyz files of one or many frames."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from openunite.data.atoms.elements import SYMBOLS, atomic_number, symbol_of
from openunite.data.atoms.files import UNREADABLE, lines_of, open_text
from openunite.data.atoms.structure import Floats, Structure
from openunite.data.holdout import Skipped
from openunite.files import atomic_file

# Brackets cannot nest, so the time to match is linear for any text.
_PAIR = re.compile(
    r"""(?<![\w:-])([\w:-]+)\s*=\s*("[^"]*"|'[^']*'|\{[^{}]*\}|\[[^\[\]]*\](?!\S)|\S+)"""
)
_LABEL = re.compile(r"([A-Za-z]{1,2})\d*\Z")
_MOST_DIGITS = 9  # of a number of atoms
_FORMAT = ("lattice", "properties", "pbc", "origin")  # keys that say how to read the atoms


def read_xyz(path: Path) -> Iterator[Structure | Skipped]:
    """The frames of a file in order; a frame that cannot be read is a `Skipped` with its line.

    Extended xyz is understood (Lattice, Properties, pbc), and so are atomic numbers or labels
    ("C12") in place of symbols, further columns, Fortran and Mathematica exponents (1.0D-3,
    1.0*^-3), and the three lines that the raw files of QM9 put below the atoms.
    """
    with open_text(path) as file:
        lines, frame, lost = _Lines(enumerate(lines_of(file), 1)), 0, False
        for start, line in lines:
            name = f"{path.name}, record {frame + 1}, line {start}"
            if _counts(line):
                frame += 1
                found = _frame(int(line), lines, name)
                lost = isinstance(found, Skipped)  # skips lines up to the next count
                yield found
            elif line.strip() and not lost:
                frame, lost = frame + 1, True
                yield Skipped(name, f"expected a number of atoms, got {_shown(line)}")


def write_xyz(path: str | Path, structures: Iterable[Structure]) -> None:
    """Write one frame each: extended xyz (Lattice, Properties, pbc) with a cell, else plain xyz.

    ValueError for an unknown element, which keeps the old file.
    """
    with atomic_file(Path(path)) as file:
        for item in structures:
            file.write(_frame_text(item).encode())


def _frame_text(item: Structure) -> str:
    comment = " ".join(item.name.split())
    if item.cell is not None:
        cell = " ".join(f"{value:.10g}" for value in item.cell.ravel())
        comment = f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    rows = [str(len(item)), comment.encode("ascii", "replace").decode()]
    for number, (x, y, z) in zip(item.numbers.tolist(), item.positions, strict=True):
        rows.append(f"{symbol_of(number):<2} {x:15.8f} {y:15.8f} {z:15.8f}")
    return "".join(f"{row}\n" for row in rows)


def to_number(text: str) -> float:
    """A float as programs print it: 1.0, 1., 1.0E-3, 1.0D-3, 1.0*^-3. ValueError otherwise."""
    try:
        return float(text)
    except ValueError:
        return float(re.sub(r"[dD]|\*\^", "e", text, count=1))


def element_of(label: str) -> int:
    """ "C", "c", "CL", "C12" or "6" -> atomic number. ValueError for anything else."""
    if label.isdecimal():
        if len(label) > 3 or not 1 <= int(label) <= len(SYMBOLS):
            raise ValueError(f"unknown element {label!r}")
        return int(label)
    match = _LABEL.match(label)
    return atomic_number(match[1].capitalize() if match else label)


class _Lines:
    """Numbered lines with one line of lookahead; a line that was taken can be given back."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self._returned: list[tuple[int, str]] = []
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        if self._error:
            raise self._error
        return self._returned.pop() if self._returned else next(self._lines)

    def peek(self) -> str:
        """The next line, "" at the end; a read error is raised by the next read, not here."""
        try:
            row = next(self, None)
        except UNREADABLE as error:
            self._error = error
            return ""
        if row is None:
            return ""
        self._returned.append(row)
        return row[1]

    def give_back(self, row: tuple[int, str]) -> None:
        self._returned.append(row)


def _counts(line: str) -> bool:
    """Whether a line is a number of atoms."""
    text = line.strip()
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def _frame(count: int, lines: _Lines, name: str) -> Structure | Skipped:
    """The comment and the `count` atoms that follow a count line, consumed from `lines`."""
    _, comment = next(lines, (0, ""))
    pairs = [(key, value.strip("\"'{}[]")) for key, value in _PAIR.findall(comment)]
    options = {key.lower(): value for key, value in pairs}
    numbers, positions, indexed = [], [], "properties" not in options
    try:
        columns = _columns(options.get("properties", ""))
        cell = _cell(options)
    except ValueError as error:
        return Skipped(name, str(error))
    for row in islice(lines, count):
        fields = row[1].split()
        try:
            number, place = _atom(fields, columns)
        except ValueError as error:
            lines.give_back(row)  # it may be the next count
            return Skipped(name, f"line {row[0]}: {error}, got {_shown(row[1])}")
        numbers.append(number)
        positions.append(place)
        indexed = indexed and _is_indexed(fields, len(numbers))
    if len(numbers) < count:
        return Skipped(name, f"the file ends after {len(numbers)} of {count} atoms")
    if indexed and numbers:
        return Skipped(name, "its first column counts the atoms, expected elements; remove it")
    if comment.startswith("gdb "):  # the raw files of QM9: frequencies, SMILES, InChI
        list(islice(lines, 3))
    elif _is_atom(lines.peek(), columns):
        return Skipped(name, f"has more atoms than the {count} that it announces")
    info = {key: value for key, value in pairs if key.lower() not in _FORMAT}
    places = np.array(positions).reshape(-1, 3)
    return Structure(np.array(numbers, np.int64), places, cell, name, info)


def _atom(fields: list[str], columns: tuple[int, int]) -> tuple[int, list[float]]:
    species, xyz = columns
    if len(fields) < max(species + 1, xyz + 3):
        raise ValueError("expected an element and three coordinates")
    return element_of(fields[species]), [to_number(field) for field in fields[xyz : xyz + 3]]


def _is_indexed(fields: list[str], index: int) -> bool:
    """Whether a plain row is "index number x y z"."""
    digits = len(fields) > 4 and fields[1].isdecimal() and len(fields[1]) < 4
    return digits and fields[0] == str(index) and 1 <= int(fields[1]) <= len(SYMBOLS)


def _is_atom(line: str, columns: tuple[int, int]) -> bool:
    try:
        _atom(line.split(), columns)
    except ValueError:
        return False
    return True


def _columns(properties: str) -> tuple[int, int]:
    """First columns of the element and of x in a Properties string; plain xyz: 0 and 1."""
    if not properties:
        return 0, 1
    fields, at = properties.split(":"), 0
    found: dict[str, int] = {}
    for key, _, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        found[key.lower()] = at
        if not _counts(width):
            raise ValueError(f"expected a number of columns in Properties, got {_shown(width)}")
        at += int(width)
    species = found.get("species", found.get("z", found.get("numbers")))
    if species is None or "pos" not in found:
        raise ValueError(f"expected Properties with species and pos, got {_shown(properties)}")
    return species, found["pos"]


def _cell(options: dict[str, str]) -> Floats | None:
    """The lattice of extended xyz, None without one or if no direction is periodic."""
    periodic = re.findall(r"[TF10]", options.get("pbc", "T").upper())
    if "lattice" not in options or not {"T", "1"} & set(periodic):
        return None
    if {"F", "0"} & set(periodic):
        raise ValueError(
            f"is periodic in some directions only (pbc {' '.join(periodic)}), expected a crystal "
            '(pbc="T T T") or a molecule (pbc="F F F")'
        )
    values = options["lattice"].replace(",", " ").replace("[", " ").replace("]", " ").split()
    if len(values) != 9:
        raise ValueError(f"expected nine numbers in Lattice, got {_shown(options['lattice'])}")
    return np.array([to_number(value) for value in values]).reshape(3, 3)


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 40 else text[:37] + "...")

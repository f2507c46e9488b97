"""SDF and mol files (V2000 and V3000): elements and coordinates.

RDKit's reader is not used because it rejects or changes records that it finds chemically odd.
Bonds and charges are not needed.
"""

import re
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np

from openunite.data.atoms.files import lines_of, open_text
from openunite.data.atoms.structure import Floats, Structure
from openunite.data.atoms.xyz import element_of, to_number
from openunite.data.holdout import Skipped

_HEADER = 4  # lines of a record before its atoms: title, program, comment, counts
_LONGEST = 2_000_000  # lines of a record
_DIMENSIONS = re.compile(r"\d{6}(?:\d{4})?([23])D", re.IGNORECASE)  # "2D" or "3D" after the date
_FIELD = re.compile(r"<([^<>]+)>")
_WEDGES = ("1", "4", "6")  # bond stereo codes of a drawing


def read_sdf(path: Path) -> Iterator[Structure | Skipped]:
    """The records of a file in order; one that cannot be read is a `Skipped` with its line.

    Records end at $$$$, or where the header of another one follows M  END (joined mol files).
    """
    with open_text(path) as file:
        for record, (start, lines) in enumerate(_records(lines_of(file)), 1):
            yield _record(lines, start, f"{path.name}, record {record}, line {start}")


def _records(file: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """The first line and all lines of each record, without $$$$."""
    lines: list[str] = []
    start, end = 1, 0  # `end` counts the lines up to M  END
    for number, line in enumerate(file, 1):
        if len(lines) > _LONGEST:
            raise OSError(f"line {start}: a record of more than {_LONGEST} lines; expected $$$$")
        if line.startswith("$$$$"):
            yield start, lines
            lines, start, end = [], number + 1, 0
            continue
        lines.append(line.rstrip("\r\n"))
        if line.startswith("M  END"):
            end = len(lines)
        elif end and len(lines) == end + _HEADER and re.search(r"V[23]000\s*$", line):
            yield start, lines[:end]
            lines, start, end = lines[end:], start + end, 0
    if any(line.strip() for line in lines):
        yield start, lines


def _record(lines: list[str], start: int, name: str) -> Structure | Skipped:
    """One record, without its $$$$ line; `start` is the number of its first line."""
    try:
        if len(lines) < _HEADER:
            raise ValueError(f"expected at least {_HEADER} lines, got {len(lines)}")
        if "V3000" in lines[3]:
            numbers, positions = _atoms_v3000(lines, start)
        else:
            numbers, positions = _atoms_v2000(lines, start)
        if _is_drawing(lines, numbers, positions):
            raise ValueError(
                "a drawing (all z are 0, marked 2D or without hydrogens), expected coordinates in "
                "space"
            )
    except ValueError as error:
        return Skipped(name, str(error))
    return Structure(np.array(numbers, dtype=np.int64), positions, None, name, _fields(lines))


def _fields(lines: list[str]) -> dict[str, str]:
    """The data fields of a record: "> <NAME>", then the first line of the value."""
    found = {}
    for line, value in pairwise(lines):
        if line.startswith(">") and (match := _FIELD.search(line)):
            found[match[1].strip()] = value.strip()
    return found


def _is_drawing(lines: list[str], numbers: list[int], positions: Floats) -> bool:
    """Whether a flat record is marked 2D, or not marked and has wedges or carbon without hydrogen.

    A molecule in space may be flat: one that says 3D or has its hydrogens is kept.
    """
    marked = _DIMENSIONS.search(lines[1])
    if not numbers or positions[:, 2].any() or (marked and marked[1] == "3"):
        return False
    bonds = takewhile(lambda row: row[:1] in " 0123456789", lines[_HEADER + len(numbers) :])
    wedges = any(row[9:12].strip() in _WEDGES for row in bonds)
    return bool(marked) or wedges or (6 in numbers and 1 not in numbers)


def _atoms_v2000(lines: list[str], start: int) -> tuple[list[int], Floats]:
    # Columns are fixed: with a hundred atoms or more the two counts touch.
    if not lines[3][:3].strip().isdecimal():
        raise ValueError(f"line {start + 3}: expected a number of atoms, got {lines[3][:3]!r}")
    count = int(lines[3][:3])
    rows = lines[_HEADER : _HEADER + count]
    if len(rows) < count:
        raise ValueError(f"the record ends after {len(rows)} of {count} atoms")
    numbers, positions = [], np.zeros((count, 3))
    for i, row in enumerate(rows):
        try:
            number, positions[i] = _atom_v2000(row)
            numbers.append(number)
        except ValueError as error:
            raise ValueError(f"line {start + _HEADER + i}: {error}, got {row[:40]!r}") from error
    following = lines[_HEADER + count : _HEADER + count + 1]
    if following and "." in following[0][:30]:
        try:
            _atom_v2000(following[0])
        except ValueError:
            return numbers, positions
        raise ValueError(f"line {start + 3}: has more atoms than the {count} that it announces")
    return numbers, positions


def _atom_v2000(row: str) -> tuple[int, list[float]]:
    symbol = row[31:34].strip()
    fields = [row[0:10], row[10:20], row[20:30]]
    if not symbol or " " in symbol or symbol[0].isdecimal():  # the columns are not fixed
        *fields, symbol = row.split()[:4]
    return element_of(symbol), [to_number(field) for field in fields]


def _atoms_v3000(lines: list[str], start: int) -> tuple[list[int], Floats]:
    numbers: list[int] = []
    positions: list[list[float]] = []
    inside = False
    begun: list[str] = []
    for i, line in enumerate(lines):
        begun.append(line.removeprefix("M  V30 ").strip())
        if begun[-1].endswith("-"):  # continued in the next line
            begun[-1] = begun[-1][:-1]
            continue
        text, begun = "".join(begun), []
        if text == "BEGIN ATOM":
            inside = True
        elif text == "END ATOM":
            return numbers, np.array(positions, dtype=np.float64).reshape(-1, 3)
        elif inside:
            fields = text.split(maxsplit=5)
            try:
                if len(fields) < 5:
                    raise ValueError("expected an index, an element and three coordinates")
                numbers.append(element_of(fields[1]))
                positions.append([to_number(field) for field in fields[2:5]])
            except ValueError as error:
                raise ValueError(f"line {start + i}: {error}, got {text[:40]!r}") from error
    raise ValueError("expected a block BEGIN ATOM ... END ATOM")

"""SDF and mol files (V2000 and V3000): elements and coordinates.

Read here and not with RDKit, which refuses or changes records that it finds chemically odd;
bonds and charges are not needed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from openunite.data.atoms.files import open_text
from openunite.data.atoms.structure import Floats, Structure
from openunite.data.atoms.xyz import element_of, to_number
from openunite.data.holdout import Skipped

_HEADER = 4  # lines of a record before its atoms: title, program, comment, counts


def read_sdf(path: Path) -> Iterator[Structure | Skipped]:
    """The records of a file in order; one that cannot be read is a `Skipped` with its line."""
    with open_text(path) as file:
        lines: list[str] = []
        start, record = 1, 0
        for number, line in enumerate(file, 1):
            if not line.startswith("$$$$"):
                lines.append(line.rstrip("\r\n"))
                continue
            record += 1
            yield _record(lines, start, f"{path.name}, record {record}, line {start}")
            lines, start = [], number + 1
        if any(line.strip() for line in lines):
            yield _record(lines, start, f"{path.name}, record {record + 1}, line {start}")


def _record(lines: list[str], start: int, name: str) -> Structure | Skipped:
    """One record, without its $$$$ line; `start` is the number of its first line."""
    try:
        if len(lines) < _HEADER:
            raise ValueError(f"expected at least {_HEADER} lines, got {len(lines)}")
        if "V3000" in lines[3]:
            numbers, positions = _atoms_v3000(lines, start)
        else:
            numbers, positions = _atoms_v2000(lines, start)
        if lines[1][20:22].upper() == "2D" and len(positions) and not positions[:, 2].any():
            raise ValueError("a drawing (marked 2D, all z are 0), expected coordinates in space")
    except ValueError as error:
        return Skipped(name, str(error))
    return Structure(np.array(numbers, dtype=np.int64), positions, None, name)


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
            symbol = row[31:34].strip()
            fields = [row[0:10], row[10:20], row[20:30]]
            if not symbol or " " in symbol or symbol[0].isdecimal():  # no fixed columns after all
                *fields, symbol = row.split()[:4]
            positions[i] = [to_number(field) for field in fields]
            numbers.append(element_of(symbol))
        except ValueError as error:
            raise ValueError(f"line {start + _HEADER + i}: {error}, got {row[:40]!r}") from error
    return numbers, positions


def _atoms_v3000(lines: list[str], start: int) -> tuple[list[int], Floats]:
    numbers: list[int] = []
    positions: list[list[float]] = []
    inside, begun = False, ""
    for i, line in enumerate(lines):
        text = begun + line.removeprefix("M  V30 ").strip()
        begun = text[:-1] if text.endswith("-") else ""  # goes on in the next line
        if begun:
            continue
        if text == "BEGIN ATOM":
            inside = True
        elif text == "END ATOM":
            return numbers, np.array(positions, dtype=np.float64).reshape(-1, 3)
        elif inside:
            fields = text.split()
            try:
                if len(fields) < 5:
                    raise ValueError("expected an index, an element and three coordinates")
                numbers.append(element_of(fields[1]))
                positions.append([to_number(field) for field in fields[2:5]])
            except ValueError as error:
                raise ValueError(f"line {start + i}: {error}, got {text[:40]!r}") from error
    raise ValueError("expected a block BEGIN ATOM ... END ATOM")

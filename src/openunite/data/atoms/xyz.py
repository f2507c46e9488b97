"""xyz and extended xyz files, also with many frames and of other programs."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, dropwhile, islice
from pathlib import Path

import numpy as np

from openunite.data.atoms.elements import SYMBOLS, atomic_number
from openunite.data.atoms.files import open_text
from openunite.data.atoms.structure import Floats, Structure
from openunite.data.holdout import Skipped

_PAIR = re.compile(r"""([\w:-]+)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S+)""")
_LABEL = re.compile(r"([A-Za-z]{1,2})\d*\Z")


def read_xyz(path: Path) -> Iterator[Structure | Skipped]:
    """The frames of a file in order; a frame that cannot be read is a `Skipped` with its line.

    Extended xyz is understood (Lattice, Properties, pbc), and so are atomic numbers or labels
    ("C12") in place of symbols, further columns, Fortran and Mathematica exponents (1.0D-3,
    1.0*^-3), and the three lines that the raw files of QM9 put below the atoms.
    """
    with open_text(path) as file:
        lines, frame, lost = _Lines(enumerate(file, 1)), 0, False
        for start, line in lines:
            if line.strip().isdecimal():
                frame, lost = frame + 1, False
                yield _frame(int(line), lines, f"{path.name}, record {frame}, line {start}")
            elif line.strip() and not lost:
                frame, lost = frame + 1, True  # and so are all lines to the next count
                reason = f"expected a number of atoms, got {_shown(line)}"
                yield Skipped(f"{path.name}, record {frame}, line {start}", reason)


def write_xyz(path: str | Path, structures: Iterable[Structure]) -> None:
    """One frame each; with a cell extended xyz (Lattice, Properties, pbc), else plain xyz."""
    with Path(path).open("w", encoding="ascii", errors="replace") as file:
        for item in structures:
            comment = " ".join(item.name.split())
            if item.cell is not None:
                cell = " ".join(f"{value:.10g}" for value in item.cell.ravel())
                comment = f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"'
            file.write(f"{len(item)}\n{comment}\n")
            for number, (x, y, z) in zip(item.numbers, item.positions, strict=True):
                file.write(f"{SYMBOLS[number - 1]:<2} {x:15.8f} {y:15.8f} {z:15.8f}\n")


def to_number(text: str) -> float:
    """A float as programs print it: 1.0, 1., 1.0E-3, 1.0D-3, 1.0*^-3. ValueError otherwise."""
    try:
        return float(text)
    except ValueError:
        return float(re.sub(r"[dD]|\*\^", "e", text, count=1))


def element_of(label: str) -> int:
    """ "C", "c", "CL", "C12" or "6" -> atomic number. ValueError for what is no element."""
    if label.isdecimal():
        if not 1 <= int(label) <= len(SYMBOLS):
            raise ValueError(f"unknown element {label!r}")
        return int(label)
    match = _LABEL.match(label)
    return atomic_number(match[1].capitalize() if match else label)


class _Lines:
    """Numbered lines of which some may be given back."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        return next(self._lines)

    def give_back(self, rows: list[tuple[int, str]]) -> None:
        self._lines = chain(rows, self._lines)


def _frame(count: int, lines: _Lines, name: str) -> Structure | Skipped:
    """The comment and the `count` atoms that follow a count line, consumed from `lines`."""
    _, comment = next(lines, (0, ""))
    rows = list(islice(lines, count))
    options = {key.lower(): value.strip("\"'{}[]") for key, value in _PAIR.findall(comment)}
    numbers, positions = np.zeros(len(rows), dtype=np.int64), np.zeros((len(rows), 3))
    try:
        species, xyz = _columns(options.get("properties", ""))
        cell = _cell(options)
    except ValueError as error:
        return Skipped(name, str(error))
    for i, (at, row) in enumerate(rows):
        fields = row.split()
        try:
            if len(fields) < max(species + 1, xyz + 3):
                raise ValueError("expected an element and three coordinates")
            numbers[i] = element_of(fields[species])
            positions[i] = [to_number(field) for field in fields[xyz : xyz + 3]]
        except ValueError as error:
            # A count that is too large must not cost the next frames.
            lines.give_back(list(dropwhile(lambda pair: not pair[1].strip().isdecimal(), rows[i:])))
            return Skipped(name, f"line {at}: {error}, got {_shown(row)}")
    if len(rows) < count:
        return Skipped(name, f"the file ends after {len(rows)} of {count} atoms")
    if comment.startswith("gdb "):  # the raw files of QM9: frequencies, SMILES, InChI
        list(islice(lines, 3))
    return Structure(numbers, positions, cell, name)


def _columns(properties: str) -> tuple[int, int]:
    """First columns of the element and of x in a Properties string; plain xyz: 0 and 1."""
    if not properties:
        return 0, 1
    fields, at = properties.split(":"), 0
    found: dict[str, int] = {}
    for key, _, width in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        found[key.lower()] = at
        at += int(width)
    species = found.get("species", found.get("z", found.get("numbers")))
    if species is None or "pos" not in found:
        raise ValueError(f"expected Properties with species and pos, got {properties}")
    return species, found["pos"]


def _cell(options: dict[str, str]) -> Floats | None:
    """The lattice of extended xyz, None without one or if no direction is periodic."""
    if "lattice" not in options or not set(options.get("pbc", "T").upper()) & {"T", "1"}:
        return None
    values = options["lattice"].replace(",", " ").replace("[", " ").replace("]", " ").split()
    if len(values) != 9:
        raise ValueError(f"expected nine numbers in Lattice, got {options['lattice']!r}")
    return np.array([to_number(value) for value in values]).reshape(3, 3)


def _shown(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 40 else text[:37] + "...")

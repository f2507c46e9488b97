"""CIF: a fast reader for cells that list all atoms (P1), pymatgen for the rest, and a writer."""

import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openunite.data.atoms.convert import from_pymatgen
from openunite.data.atoms.elements import SYMBOLS, atomic_number
from openunite.data.atoms.lattice import cell_from_parameters, parameters_from_cell, wrap
from openunite.data.atoms.structure import Floats, Structure
from openunite.data.holdout import Skipped

_TOKEN = re.compile(
    r"""^;(?P<text>.*?)^;|'(?P<single>(?:[^'\n]|'(?=\S))*)'|"(?P<double>(?:[^"\n]|"(?=\S))*)"|"""
    r"""\#[^\n]*|(?P<bare>\S+)""",
    re.MULTILINE | re.DOTALL,
)
_CELL = tuple(f"_cell_{key}" for key in ("length_a", "length_b", "length_c")) + tuple(
    f"_cell_angle_{key}" for key in ("alpha", "beta", "gamma")
)
_OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_GROUP_NAMES = (
    *("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt"),
    *("_symmetry_space_group_name_hall", "_space_group_name_hall"),
)
_GROUP_NUMBERS = ("_symmetry_int_tables_number", "_space_group_it_number")


@dataclass
class _Block:
    """A data block: single values, and the columns of its loops, by name in lower case.

    It begins at character `start` of the text.
    """

    title: str
    start: int = 0
    values: dict[str, str] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)

    def column(self, name: str) -> list[str]:
        """A loop's column; a single value is a column of one."""
        if name in self.columns:
            return self.columns[name]
        return [self.values[name]] if name in self.values else []


def read_cif(text: str, name: str) -> Iterator[Structure | Skipped]:
    """The crystals of a CIF in order; one that cannot be read is a `Skipped`.

    Blocks without a cell (publication data) are passed over. Occupancies must be 1. Of several
    crystals each is named by the line at which it begins.
    """
    blocks = _blocks(text)
    ends = [*(block.start for block in blocks[1:]), len(text)]
    found = [pair for pair in zip(blocks, ends, strict=True) if set(_CELL) & pair[0].values.keys()]
    if not found:
        yield Skipped(name, "expected a CIF with _cell_length_a, got none")
    line, at = 1, 0
    for block, end in found:
        line, at = line + text.count("\n", at, block.start), block.start
        where = name if len(found) == 1 else f"{name}, line {line} (data_{block.title})"
        try:
            if _lists_all_atoms(block):
                yield _structure(block, where)
            else:
                yield _expanded(text[at:end], where)
        except ValueError as error:
            yield Skipped(where, str(error))


def write_cif(path: str | Path, structures: Iterable[Structure]) -> None:
    """One block each, in P1. ValueError as from `cif_text`, before anything is written."""
    blocks = [cif_text(item, f"{i}") for i, item in enumerate(structures)]
    Path(path).write_text("".join(blocks), encoding="ascii", errors="replace")


def cif_text(structure: Structure, title: str) -> str:
    """A data block in P1 called `title`. ValueError for a molecule, and for what is not finite."""
    if structure.cell is None:
        raise ValueError(f"{structure.name or 'a molecule'} has no cell; write xyz or SDF")
    if not structure.is_finite:
        raise ValueError(
            f"{structure.name or f'crystal {title}'} has a cell or positions that are not finite, "
            "as of a generated lattice that no cell can have; leave it out"
        )
    keys = zip(_CELL, parameters_from_cell(structure.cell), strict=True)
    lines = [
        f"data_{title}",
        "_symmetry_space_group_name_H-M 'P 1'",
        "_symmetry_Int_Tables_number 1",
        *(f"{key} {value:.8f}" for key, value in keys),
        "loop_",
        " _symmetry_equiv_pos_site_id",
        " _symmetry_equiv_pos_as_xyz",
        "  1 'x, y, z'",
        "loop_",
        *(f" _atom_site_{key}" for key in ("type_symbol", "label", "occupancy")),
        *(f" _atom_site_fract_{axis}" for axis in "xyz"),
    ]
    for i, (number, (x, y, z)) in enumerate(
        zip(structure.numbers, wrap(structure.fractional), strict=True)
    ):
        symbol = SYMBOLS[number - 1]
        lines.append(f"  {symbol} {symbol}{i} 1.0 {x:.8f} {y:.8f} {z:.8f}")
    return "\n".join(lines) + "\n\n"


def _blocks(text: str) -> list[_Block]:
    """A small CIF parser. Values keep neither quotes nor line breaks at their ends."""
    blocks = [_Block("")]
    header: list[str] = []
    values: list[str] = []
    key = ""
    for token, bare, start in _tokens(text):
        lower = token.lower() if bare else ""
        if lower.startswith(("data_", "_")) or lower == "loop_":
            if values:
                _close_loop(blocks[-1], header, values)
                header, values = [], []
            if lower.startswith("data_"):
                blocks.append(_Block(token[5:], start))
                header, key = [], ""
            elif lower == "loop_":
                header, key = ["loop_"], ""
            elif header:
                header.append(lower)
            else:
                key = lower
        elif header:
            values.append(token)
        elif key:
            blocks[-1].values[key] = token
            key = ""
    _close_loop(blocks[-1], header, values)
    return blocks


def _tokens(text: str) -> Iterator[tuple[str, bool, int]]:
    """Tokens without quotes and comments, whether they were bare words, and where they start."""
    for match in _TOKEN.finditer(text):
        if match["bare"] is not None:
            yield match["bare"], True, match.start()
        elif match.lastgroup is not None:
            yield match[match.lastgroup].strip(), False, match.start()


def _close_loop(block: _Block, header: list[str], values: list[str]) -> None:
    names = header[1:]
    for i, name in enumerate(names):
        block.columns[name] = values[i :: len(names)]


def _lists_all_atoms(block: _Block) -> bool:
    """Whether the only symmetry is the identity."""
    operations = [op for key in _OPERATIONS for op in block.column(key)]
    if operations:
        return all("".join(op.lower().split()) in ("x,y,z", "+x,+y,+z") for op in operations)
    names = [block.values[key] for key in _GROUP_NAMES if key in block.values]
    numbers = [block.values[key] for key in _GROUP_NUMBERS if key in block.values]
    return all("".join(group.split()).upper() in ("P1", "?", ".") for group in names) and all(
        number in ("1", "?", ".") for number in numbers
    )


def _structure(block: _Block, name: str) -> Structure:
    """The atoms as they are listed. ValueError says what is missing or wrong."""
    lacking = [key for key in _CELL if key not in block.values]
    if lacking:
        raise ValueError(f"has no {lacking[0]}")
    parameters = [_number(block.values[key], key) for key in _CELL]
    axes = [block.column(f"_atom_site_fract_{axis}") for axis in "xyz"]
    labels = block.column("_atom_site_type_symbol") or block.column("_atom_site_label")
    if not labels or any(len(axis) != len(labels) for axis in axes):
        counts = [len(axis) for axis in axes]
        raise ValueError(
            f"expected _atom_site_ columns of one length, got {len(labels)} elements and {counts} "
            "fractional coordinates"
        )
    for label, text in zip(labels, block.column("_atom_site_occupancy"), strict=False):
        if text not in ("?", ".") and abs(_number(text, "occupancy") - 1.0) > 1e-3:
            raise ValueError(f"site {label} has occupancy {text}, expected 1")
    numbers = np.array([_element(label) for label in labels], dtype=np.int64)
    rows = [[_number(text, "coordinate") for text in axis] for axis in axes]
    cell = cell_from_parameters(np.array(parameters))
    fractional: Floats = np.array(rows, dtype=np.float64).T
    return Structure(numbers, fractional @ cell, cell, name)


def _number(text: str, what: str) -> float:
    """ "5.431(2)" -> 5.431."""
    try:
        return float(text.split("(")[0])
    except ValueError:
        raise ValueError(f"expected a number for {what}, got {text!r}") from None


def _element(label: str) -> int:
    """ "Na", "Fe3+", "O12A" or "OW1" -> atomic number."""
    letters = re.match(r"[A-Za-z]*", label)
    name = letters[0] if letters else ""
    for length in (2, 1):
        try:
            return atomic_number(name[:length].capitalize())
        except ValueError:
            continue
    raise ValueError(f"unknown element {label!r}")


def _expanded(text: str, name: str) -> Structure:
    """A block with symmetry, by pymatgen, in the cell of the file."""
    try:
        from pymatgen.io.cif import CifParser
    except ImportError as error:
        raise ImportError(
            f"{name} has symmetry, which needs pymatgen: pip install 'openunite[crystals]'"
        ) from error
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        try:
            found: list[Any] = CifParser.from_str(text).parse_structures(primitive=False)
        except Exception as error:  # whatever a broken file may set off in there
            raise ValueError(f"pymatgen cannot read it ({error})") from error
    if any("Defaulting to P1" in str(note.message) for note in notes):
        raise ValueError("has a space group that pymatgen does not know; list its operations")
    if len(found) != 1:
        raise ValueError(f"expected one crystal, got {len(found)}")
    return from_pymatgen(found[0], name)

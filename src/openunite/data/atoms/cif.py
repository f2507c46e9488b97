"""CIF: crystals with the symmetry that the file states applied, and a writer.

Files are parsed by gemmi; `sites.py` decides what is an atom and `symmetry.py` what is symmetry.
"""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.lattice import cell_from_parameters, parameters_from_cell, wrap
from openunite.data.atoms.sites import Values, expand, list_sites, stated_formula, to_value
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.symmetry import find_settings
from openunite.data.holdout import Skipped
from openunite.files import atomic_file
from openunite.optional import optional

_CELL = tuple(f"_cell_length_{axis}" for axis in "abc") + tuple(
    f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")
)
_READ = ("_cell", "_atom_site", "_symmetry", "_space_group", "_chemical_formula_sum")
_HAS_CELL = re.compile(r"_cell[._](length|angle)_", re.IGNORECASE)
_HEADER = re.compile(r"^;.*?^;|^[ \t]*data_(\S*)", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_UNQUOTED = re.compile(r"^([ \t]*_\S+[ \t]+)([^\s'\";#][^\n'\";#]*)$", re.MULTILINE)


def read_cif(text: str, name: str) -> Iterator[Structure | Skipped]:
    """The crystals of a CIF in order; one that cannot be read is a `Skipped`.

    Blocks without a cell (publication data) are passed over. Occupancies must be 1. If there are
    several crystals, each is named by the line at which it begins.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found = [block for block in _blocks(text) if _HAS_CELL.search(block[2])]
    if not found:
        kind = "JSON" if text.lstrip()[:1] in ("{", "[") else "none"
        yield Skipped(name, f"expected a CIF with _cell_length_a, got {kind}")
    for line, title, block in found:
        where = name if len(found) == 1 else f"{name}, line {line} (data_{title})"
        try:
            yield _crystal(_values(block), where)
        except ValueError as error:
            yield Skipped(where, str(error))


def write_cif(path: str | Path, structures: Iterable[Structure]) -> None:
    """Write one P1 data block per crystal. ValueError of `cif_text`, which keeps the old file."""
    with atomic_file(Path(path)) as file:
        for i, item in enumerate(structures):
            file.write(cif_text(item, f"{i}").encode())


def cif_text(structure: Structure, title: str) -> str:
    """A data block in P1 called `title`. ValueError for a molecule or non-finite values."""
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
        symbol = symbol_of(int(number))
        lines.append(f"  {symbol} {symbol}{i} 1.0 {x:.8f} {y:.8f} {z:.8f}")
    return "\n".join(lines) + "\n\n"


def _blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, title and text of each data block; a text without `data_` is one untitled block.

    Blocks are parsed one by one, so that a broken one does not lose the others.
    """
    starts = [match for match in _HEADER.finditer(text) if match[1] is not None]
    if not starts:
        yield 1, "", f"data_\n{text}"
        return
    line, at = 1, 0
    for match, end in zip(starts, [*(m.start() for m in starts[1:]), len(text)], strict=True):
        line, at = line + text.count("\n", at, match.start()), match.start()
        yield line, match[1], "data_" + text[match.end() : end]


def _values(block: str) -> Values:
    """The values of a block that are used, by lower-case tag with dots (DDLm) as underscores."""
    cif = optional("gemmi.cif", "crystals", "reading a CIF")
    plain = block.encode("ascii", "backslashreplace")
    try:
        parsed = cif.read_string(plain, 0).sole_block()
    except (ValueError, RuntimeError):
        try:  # try again with quotes around values of several words
            parsed = cif.read_string(_UNQUOTED.sub(r"\1'\2'", plain.decode()), 0).sole_block()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"is not a sound CIF ({error})") from error
    found: dict[str, list[str]] = {}
    for item in parsed:
        if item.pair:
            columns = [(item.pair[0], [item.pair[1]])]
        elif item.loop:
            tags, values = item.loop.tags, item.loop.values
            columns = [(tag, values[i :: len(tags)]) for i, tag in enumerate(tags)]
        else:
            continue
        for tag, column in columns:
            key = tag.lower().replace(".", "_")
            if key.startswith(_READ):
                if key in found:
                    raise ValueError(f"gives {tag} twice; leave one of them out")
                found[key] = [
                    cif.as_string(text) if text[:1] in "'\";" else text for text in column
                ]
    return found


def _crystal(values: Values, name: str) -> Structure:
    """The crystal with all atoms of its cell. ValueError says what is missing or wrong."""
    lacking = [key for key in _CELL if not values.get(key)]
    if lacking:
        raise ValueError(f"has no {lacking[0]}")
    parameters = [to_value(values[key][0], key) for key in _CELL]
    for key, value, limit in zip(_CELL, parameters, [math.inf] * 3 + [180.0] * 3, strict=True):
        if not 0.0 < value < limit:
            below = f" and below {limit:g}" if limit < math.inf else ""
            raise ValueError(f"has {key} {value:g}, expected a number above 0{below}")
    cell = cell_from_parameters(np.array(parameters))
    formula = stated_formula(values)
    settings, doubt = find_settings(values, parameters[3:])
    numbers, places = expand(list_sites(values, formula), settings, cell, formula)
    if doubt and not (formula.units and formula.counts):  # else a formula with Z has confirmed them
        raise ValueError(doubt)
    return Structure(numbers, places @ cell, cell, name)

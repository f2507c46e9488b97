"""The symmetry operations that a CIF states; a ValueError says why they are not understood.

A crystal without its symmetry is another crystal, so P1 is never a fallback: it is assumed only if
the file says P1 or says nothing at all.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from openunite.data.atoms.structure import Floats
from openunite.optional import optional

Values = Mapping[str, Sequence[str]]  # a data block by key; keys are lower case without dots
Operation = tuple[tuple[float, ...], ...]  # rows of a matrix (3, 4): rotation, then translation
Setting = tuple[Operation, ...]

_OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz")
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NAMES = (
    *("_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m"),
    *("_space_group_name_h-m_full", "_space_group_name_h-m_ref"),
)
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_CODE = "_space_group_it_coordinate_system_code"
_SAYS_NOTHING = re.compile(r"_symmetry_cell_setting|_space_group_crystal_system|.*_id|.*_details")
_SETTING = re.compile(r"(?::|\(?origin\s*(?:choice)?)\s*([12hrHR])\)?$|\s*(RS|HR|[SZHR])$")
_CODES = {"S": "1", "Z": "2", "RS": "R", "HR": "R"}  # setting codes of the ICSD
_MOST = 192  # operations of the largest space groups, such as F m -3 m
_STRAIN = 0.03  # largest change of the metric tensor, relative to the longest edge squared
REMEDY = "list its operations (_space_group_symop_operation_xyz) or write the file in P1"


IDENTITY: Operation = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))


def find_settings(values: Values, angles: Sequence[float]) -> tuple[list[Setting], str]:
    """The settings (mostly one) that fit what a data block states, and a doubt about them or "".

    `angles` are those of the cell (degrees). The doubt is a sentence if the listed operations are
    not those of the named group: JARVIS lists all atoms and names the group. ValueError if the
    statements are not understood.
    """
    _refuse_other_kinds(values)
    listed = stated(values, _OPERATIONS)
    groups = _groups(values, angles, certain=bool(listed))
    if listed:
        operations = tuple(dict.fromkeys(map(_operation, listed)))
        if len(operations) > _MOST:
            raise ValueError(f"lists {len(operations)} symmetry operations, expected at most 192")
        if not groups or len(operations) in _orders(groups[0].number):
            return [operations], ""
        return [operations], (
            f"lists {len(operations)} of the {len(_setting(groups[0]))} symmetry operations of "
            f"{groups[0].hm}, which it names; no formula with Z proves them; correct one of them"
        )
    if groups:
        return [_setting(group) for group in groups], ""
    for key in values:
        symmetry = key.startswith(("_symmetry", "_space_group")) and stated(values, (key,))
        if symmetry and not _SAYS_NOTHING.fullmatch(key):
            raise ValueError(f"states its symmetry only by {key}, which is not enough; {REMEDY}")
    return [(IDENTITY,)], ""


def stated(values: Values, keys: Sequence[str]) -> list[str]:
    """The values of the first of `keys` that has any; "?" and "." are no values."""
    for key in keys:
        if found := [text for text in values.get(key, ()) if text.strip() not in ("", "?", ".")]:
            return found
    return []


def preserves(operations: Setting, cell: Floats) -> bool:
    """Whether all operations keep distances in a cell (3, 3)."""
    rotations = np.array(operations)[:, :, :3]
    metric = cell @ cell.T
    moved = rotations.transpose(0, 2, 1) @ metric @ rotations
    return bool((np.abs(moved - metric) <= _STRAIN * metric.max()).all())


def _refuse_other_kinds(values: Values) -> None:
    for key in values:
        if re.match(r"_space_group_(symop_)?magn", key):
            raise ValueError(f"has a magnetic space group ({key}), which is not applied; {REMEDY}")
        if "_ssg_" in key or (key == "_cell_modulation_dimension" and values[key][0] != "0"):
            raise ValueError(
                f"is a modulated structure ({key}), whose average cell is not the crystal; give a "
                "periodic approximant in P1"
            )


def _groups(values: Values, angles: Sequence[float], certain: bool) -> list[Any]:
    """The settings of the space group that Hall symbol, names and number agree on; [] for none.

    ValueError if one is unknown or they disagree, unless operations are listed (`certain`).
    """
    hall, names = stated(values, _HALL), [text for key in _NAMES for text in stated(values, [key])]
    numbers = stated(values, _NUMBERS)
    found = {text: _by_hall(text) for text in hall}
    found |= {text: _by_name(text, values, angles) for text in names}
    found |= {text: _by_number(text, values, angles) for text in numbers}
    known = [groups for groups in found.values() if groups]
    if not certain:
        if unknown := [text for text, groups in found.items() if not groups]:
            raise ValueError(f"has a space group that is not known, {unknown[0]!r}; {REMEDY}")
        if len({groups[0].number for groups in known}) > 1:
            raise ValueError(f"states different space groups, {', '.join(found)}; {REMEDY}")
    return known[0] if known else []


def _by_hall(symbol: str) -> list[Any]:
    gemmi = optional("gemmi", "crystals")
    try:
        found = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(symbol.replace("_", " ")))
    except RuntimeError:
        return []
    return [found] if found else []


def _by_name(name: str, values: Values, angles: Sequence[float]) -> list[Any]:
    """The group of this name, in both origins if it chooses none; [] for an unknown name."""
    find = optional("gemmi", "crystals").find_spacegroup_by_name
    name = re.sub(r"_|\((?=\d\))|(?<=\(\d)\)", "", name)  # P 2_1/c, P 2(1)/c
    code = "".join(stated(values, [_CODE])).upper()
    if match := _SETTING.search(name):
        name, code = name[: match.start()], (match[1] or match[2]).upper()
    code = _CODES.get(code, code)
    plain = find(name.strip(), angles[0], angles[2])
    if plain is None or plain.ext not in ("1", "2", "H", "R"):
        return [plain] if plain else []
    codes = [code] if code else ["1", "2"] if plain.ext in ("1", "2") else [plain.ext]
    found = [find(f"{plain.hm}:{each}") for each in codes]
    return [group for group in found if group]


def _by_number(text: str, values: Values, angles: Sequence[float]) -> list[Any]:
    """The standard setting of a group number; [] if a code says that the file uses another one."""
    standard = set("".join(stated(values, [_CODE])).upper()) <= set("12HRB")
    if not (text.isdecimal() and len(text) < 4 and standard):
        return []
    group = optional("gemmi", "crystals").find_spacegroup_by_number(int(text))
    return _by_name(group.hm, values, angles) if group else []


@cache
def _orders(number: int) -> frozenset[int]:
    """The numbers of operations of the settings of a space group."""
    table = optional("gemmi", "crystals").spacegroup_table()
    return frozenset(len(list(g.operations())) for g in table if g.number == number)


@lru_cache(4096)
def _operation(text: str) -> Operation:
    """ "-x,y+1/2,z" as rows; the translation is between 0 and 1."""
    gemmi = optional("gemmi", "crystals")
    try:
        return _rows(gemmi.Op(text))
    except RuntimeError as error:
        raise ValueError(f"expected an operation such as -x,y+1/2,z, got {text!r}") from error


def _setting(group: Any) -> Setting:
    return tuple(_rows(operation) for operation in group.operations())


def _rows(operation: Any) -> Operation:
    operation, scale = operation.wrap(), operation.DEN
    pairs = zip(operation.rot, operation.tran, strict=True)
    return tuple((*(x / scale for x in row), shift / scale) for row, shift in pairs)

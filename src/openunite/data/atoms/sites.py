"""The atoms that a CIF lists: elements, positions, and their images under its symmetry."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.elements import BY_ELECTRONEGATIVITY, SYMBOLS, atomic_number, symbol_of
from openunite.data.atoms.lattice import wrap
from openunite.data.atoms.structure import Floats, Ints
from openunite.data.atoms.symmetry import IDENTITY, REMEDY, Setting, Values, preserves, stated

_WATER = {"WAT": 8, "OW": 8, "OH": 8, "HW": 1}  # labels of the atoms of water
_LABELS = {*SYMBOLS[:98], "D"}  # NO is not nobelium, T is a tetrahedral site
_MOST_IMAGES = 200_000  # a limit, because each is compared with those before it
_SAME_PLACE = 0.05  # Angstrom; images of a site are moved by the rounding of its coordinates


@dataclass(frozen=True)
class Site:
    """A row of a file's list of atoms; `multiplicity` is 0 if the file does not state it."""

    label: str
    number: int
    place: Floats
    multiplicity: float


@dataclass(frozen=True)
class Formula:
    """Atoms by atomic number, and the number of formula units in a cell (0: not stated)."""

    counts: Mapping[int, float]
    units: int

    def fits(self, atoms: Mapping[int, int]) -> bool:
        """Whether a cell may hold these atoms.

        Some programs print the content of the cell as the formula: Na4 Cl4, Z = 4.
        """
        times = max(1, round(sum(atoms.values()) / sum(self.counts.values())))
        whole = times == 1 and not any(count % max(1, self.units) for count in self.counts.values())
        return (whole or self.units in (0, times)) and all(
            abs(atoms.get(number, 0) - times * self.counts.get(number, 0)) <= 0.01
            for number in (*atoms, *self.counts)
        )

    def __str__(self) -> str:
        atoms = _written(self.counts)
        return f"{atoms}, Z = {self.units}" if self.units else atoms


def list_sites(values: Values, formula: Formula) -> list[Site]:
    """The listed sites without dummy atoms; `formula` resolves ambiguous labels."""
    axes = [values.get(f"_atom_site_fract_{axis}", ()) for axis in "xyz"]
    labels = values.get("_atom_site_label") or values.get("_atom_site_type_symbol") or ()
    if "_atom_site_cartn_x" in values and not any(axes):
        raise ValueError(
            "gives Cartesian coordinates (_atom_site_Cartn_x, as an mmCIF does), expected "
            "fractional ones; convert it first"
        )
    if not labels or any(len(axis) != len(labels) for axis in axes):
        raise ValueError(
            f"expected _atom_site_ columns of one length, got {len(labels)} elements and "
            f"{[len(axis) for axis in axes]} fractional coordinates"
        )
    keys = ("type_symbol", "calc_flag", "occupancy", "attached_hydrogens", "symmetry_multiplicity")
    columns = [values.get(f"_atom_site_{key}") or ["?"] * len(labels) for key in keys]
    found = []
    for label, *place, kind, flag, occupancy, attached, multiplicity in zip(
        labels, *axes, *columns, strict=True
    ):
        if flag.lower() == "dum":
            continue
        if abs(_optional(occupancy, "occupancy", 1.0) - 1.0) > 1e-3:
            raise ValueError(f"site {label} has occupancy {occupancy}, expected 1")
        if _optional(attached, "attached hydrogens", 0.0):
            raise ValueError(f"site {label} has {attached} hydrogens that are not among the atoms")
        number = _of_label(label, formula) if kind in ("?", ".") else _of_type(kind)
        where = np.array([to_value(text, "coordinate") for text in place])
        found.append(Site(label, number, where, _optional(multiplicity, "multiplicity", 0.0)))
    if not found:
        raise ValueError("lists no atoms but dummies")
    return found


def to_value(text: str, what: str) -> float:
    """A number without its uncertainty: "5.431(2)" -> 5.431. ValueError for other text."""
    try:
        return float(text.split("(")[0])
    except ValueError:
        raise ValueError(f"expected a number for {what}, got {text!r}") from None


def _optional(text: str, what: str, default: float) -> float:
    return default if text in ("?", ".") else to_value(text, what)


def stated_formula(values: Values) -> Formula:
    """The stated chemical formula; one without atoms if none is stated or it cannot be parsed."""
    text = "".join(stated(values, ["_chemical_formula_sum"])).replace(" ", "")
    units = "".join(stated(values, ["_cell_formula_units_z"]))
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", text)
    counts: dict[int, float] = {}
    for symbol, count in parts if "".join(map("".join, parts)) == text else ():
        if (symbol not in SYMBOLS and symbol != "D") or float(count or 1) == 0.0:
            return Formula({}, 0)
        number = atomic_number(symbol)
        counts[number] = counts.get(number, 0.0) + float(count or 1)
    return Formula(counts, int(units) if units.isdecimal() and len(units) < 6 else 0)


def expand(
    sites: Sequence[Site], settings: Sequence[Setting], cell: Floats, formula: Formula
) -> tuple[Ints, Floats]:
    """Atomic numbers (N,) and fractional coordinates (N, 3) of all atoms in the cell.

    Exactly one setting must agree with all that the file states, else ValueError. With symmetry,
    atoms are ordered from the least to the most electronegative element.
    """
    if settings[0] != (IDENTITY,):
        sites = sorted(sites, key=lambda site: BY_ELECTRONEGATIVITY.index(site.number))
    found, reason = [], f"has a cell that its symmetry does not leave as it is; {REMEDY}"
    for setting in settings:
        if setting == (IDENTITY,) or preserves(setting, cell):
            images = _images(sites, setting, cell)
            reason = _misfit(sites, images, len(setting), formula)
            found += [] if reason else [images]
    if len(found) != 1:
        two = f"has a space group of two origins and names none of them; {REMEDY}"
        raise ValueError(two if found else reason)
    numbers = np.repeat([site.number for site in sites], [len(images) for images in found[0]])
    return numbers.astype(np.int64), np.concatenate(found[0])


def _images(sites: Sequence[Site], setting: Setting, cell: Floats) -> list[Floats]:
    """The images (K, 3) of each site, those on special positions once."""
    if setting == (IDENTITY,):  # positions stay as they are printed
        return [site.place[None] for site in sites]
    if len(sites) * len(setting) > _MOST_IMAGES:
        raise ValueError(
            f"lists {len(sites)} sites with {len(setting)} symmetry operations, expected at most "
            f"{_MOST_IMAGES} images; write the file in P1"
        )
    operations = np.array(setting)
    taken, owners = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    for i, site in enumerate(sites):
        place = site.place.copy()
        for third in (1 / 3, 2 / 3):  # as printed with four digits or more
            place[np.abs(place / third - 1.0) <= 1e-4] = third
        images = wrap(operations[:, :, :3] @ place + operations[:, :, 3])
        if (again := _near(images[:1], taken, cell)[0]).any():
            raise ValueError(
                f"lists site {site.label} where its symmetry puts "
                f"{sites[owners[again.argmax()]].label} (occupancy 2); leave one of them out"
            )
        images = images[~np.tril(_near(images, images, cell), -1).any(axis=1)]
        taken = np.concatenate([taken, images])
        owners = np.concatenate([owners, np.full(len(images), i)])
    return [taken[owners == i] for i in range(len(sites))]


def _near(first: Floats, second: Floats, cell: Floats) -> NDArray[np.bool_]:
    """Which pairs of fractional coordinates (A, 3) and (B, 3) are one position: bool (A, B)."""
    between = first[:, None] - second
    between -= np.round(between)
    near: NDArray[np.bool_] = ((between @ cell) ** 2).sum(axis=2) < _SAME_PLACE**2
    return near


def _misfit(sites: Sequence[Site], images: Sequence[Floats], order: int, formula: Formula) -> str:
    """How the atoms contradict multiplicities or formula; "" if they do not.

    SHELXL writes the order of a site's symmetry as its multiplicity, so both are accepted.
    """
    counts: Counter[int] = Counter()
    for site, places in zip(sites, images, strict=True):
        counts[site.number] += len(places)
        if site.multiplicity not in (0, len(places), order / len(places)):
            return (
                f"site {site.label} has multiplicity {site.multiplicity:g}, but symmetry makes "
                f"{len(places)} of it; {REMEDY}"
            )
    if formula.counts and not formula.fits(counts):
        return f"has {_written(counts)} in its cell, but the formula {formula}; {REMEDY}"
    return ""


def _written(atoms: Mapping[int, float]) -> str:
    return " ".join(f"{symbol_of(number)}{count:g}" for number, count in sorted(atoms.items()))


@lru_cache(4096)
def _of_type(kind: str) -> int:
    """The atomic number of a type such as "Na1+": an element and perhaps a charge; NH4 is no Nh."""
    letters, rest = _apart(kind)
    if letters.upper() in _WATER:
        return _WATER[letters.upper()]
    symbol, capitals = letters.capitalize(), letters[1:].isupper()
    if (capitals and (symbol not in _LABELS or rest.isdecimal())) or rest.strip("0123456789.+-"):
        symbol = kind
    return atomic_number(symbol)


def _of_label(label: str, formula: Formula) -> int:
    """The atomic number of a label such as "O12A" or "OW1".

    If it may mean two elements, the formula decides; ValueError if it does not.
    """
    letters, _ = _apart(label)
    if letters.upper() in _WATER:
        return _WATER[letters.upper()]
    letters = letters.capitalize() if letters.islower() else letters
    first = re.sub(r"(?<=.)[A-Z].*", "", letters)  # "OSi" may be O or Os, "Si" is Si
    pair = letters[:2].capitalize() if letters[1:2].isupper() else first
    readings = [each for each in dict.fromkeys((first, pair)) if each in _LABELS]
    likely = [each for each in readings if atomic_number(each) in formula.counts]
    if len(readings) > 1 and len(likely) != 1:
        raise ValueError(
            f"site {label} may be {' or '.join(readings)}; give its _atom_site_type_symbol"
        )
    return atomic_number((likely or readings or [label])[0])


def _apart(text: str) -> tuple[str, str]:
    """The letters at the beginning, and the rest."""
    length = next((i for i, letter in enumerate(text) if not letter.isalpha()), len(text))
    return text[:length], text[length:]

"""Crystals that PyPI packages ship inside their wheels: JARVIS-DFT and AFLOW prototypes.

Only data files are read: jarvis-tools is not imported, and pymatgen only for its element table.
"""

import gzip
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np

from openunite.data.atoms.arrays import TEST, TRAIN, Reading, pack
from openunite.data.atoms.convert import from_dict
from openunite.data.atoms.dataset import content_digests, split_by_content
from openunite.data.atoms.elements import SYMBOLS, atomic_number
from openunite.data.atoms.structure import Ints, Structure
from openunite.data.holdout import Holdout
from openunite.optional import file_of, optional
from openunite.progress import bar

MAX_ATOMS = 20  # of the crystals in "quickstart-crystals"
HELD_OUT = Holdout(share=0.1)
_JARVIS = "core/mineral_name_prototype.json.zip"
_PROTOTYPES = "analysis/prototypes/aflow_prototypes.json.gz"
_DECORATIONS = 40  # tries per prototype; repeats are dropped
_SEED = 0
_SIMILAR = 0.25  # largest relative difference of the radii of elements that replace each other


def read_jarvis() -> Reading:
    """The relaxed crystals of jarvis-tools, each id once."""
    path = file_of("jarvis", _JARVIS, "crystals", "jarvis-tools")
    with zipfile.ZipFile(path) as archive:
        entries = json.loads(archive.read("mineral_name_prototype.json"))
    found: dict[str, Structure] = {}
    for _, _, identifier, atoms in (entry for group in entries.values() for entry in group):
        if identifier not in found:
            found[identifier] = from_dict(atoms, identifier)
    return Reading("jarvis", pack(found.values()))


def read_prototypes(progress: bool = True) -> Reading:
    """Pymatgen's AFLOW prototypes with other elements in place of theirs.

    Each element becomes one of similar radius and valence, and the cell is scaled by the radii.
    All crystals of one prototype are on one side of the split: the tenth of the prototypes with
    the smallest sha256 of their names is held out.
    """
    path = file_of("pymatgen", _PROTOTYPES, "crystals", "pymatgen")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        entries = json.load(file)
    crystals: list[Structure] = []
    prototypes: list[str] = []
    for i, entry in enumerate(bar(entries, "prototypes", disable=None if progress else True)):
        generator = np.random.default_rng([_SEED, i])
        made = list(_decorations(_prototype(entry), generator))
        crystals += made
        prototypes += [entry["tags"]["aflow"]] * len(made)
    digests = [sha256(name.encode()).hexdigest() for name in prototypes]
    return Reading("prototypes", pack(crystals), split=_split_by_group(digests))


def read_quickstart(progress: bool = True) -> Reading:
    """Both sets up to `MAX_ATOMS` atoms per crystal; a tenth of the jarvis crystals is held out."""
    jarvis, prototypes = read_jarvis(), read_prototypes(progress)
    split_jarvis = split_by_content(content_digests(jarvis.structures), HELD_OUT)
    assert prototypes.split is not None
    split = np.concatenate([split_jarvis, prototypes.split])
    crystals = [*jarvis.structures, *prototypes.structures]
    small = np.flatnonzero([len(item) <= MAX_ATOMS for item in crystals])
    return Reading(
        "quickstart-crystals", pack([crystals[i] for i in small.tolist()]), split=split[small]
    )


PACKAGED: dict[str, Callable[[bool], Reading]] = {
    "jarvis": lambda progress: read_jarvis(),
    "prototypes": read_prototypes,
    "quickstart-crystals": read_quickstart,
}


def _decorations(prototype: Structure, generator: np.random.Generator) -> Iterator[Structure]:
    """The prototype itself and different decorations of it, positions scaled with the cell."""
    species = np.unique(prototype.numbers).tolist()
    seen: set[tuple[int, ...]] = set()
    for trial in range(_DECORATIONS):
        chosen = [
            number if trial == 0 else int(generator.choice(_replacements(number)))
            for number in species
        ]
        if len(set(chosen)) < len(species) or tuple(chosen) in seen:
            continue
        seen.add(tuple(chosen))
        swap = np.zeros(len(SYMBOLS) + 1, dtype=np.int64)
        swap[species] = chosen
        numbers = swap[prototype.numbers]
        scale = _mean_radius(numbers) / _mean_radius(prototype.numbers)
        assert prototype.cell is not None
        yield replace(
            prototype,
            numbers=numbers,
            positions=prototype.positions * scale,
            cell=prototype.cell * scale,
            name=f"{prototype.name}, decoration {len(seen)}",
        )


def _prototype(entry: dict[str, Any]) -> Structure:
    sites, tags = entry["snl"]["sites"], entry["tags"]
    symbols = [site["species"][0]["element"] for site in sites]
    return Structure(
        np.array([atomic_number(symbol) for symbol in symbols], dtype=np.int64),
        np.array([site["xyz"] for site in sites], dtype=np.float64),
        np.array(entry["snl"]["lattice"]["matrix"], dtype=np.float64),
        f"{tags['aflow']} ({tags['mineral']})",
    )


def _mean_radius(numbers: Ints) -> float:
    radii = _radii()
    return float(np.mean([radii.get(number, 1.0) for number in numbers.tolist()]))


@cache
def _replacements(number: int) -> tuple[int, ...]:
    """Elements that may take the place of one: of similar radius and valence, itself included.

    Anion formers need the same lowest oxidation state (Cl: Br), metals a common one (Na: K).
    """
    radii, states = _radii(), _oxidation_states()
    if number not in radii or not states[number]:
        return (number,)
    lowest = min(states[number])
    alike = (
        other
        for other, radius in radii.items()
        if abs(radius / radii[number] - 1.0) <= _SIMILAR
        and states[other] & states[number]
        and (min(states[other]) == lowest if lowest < 0 else min(states[other]) > 0)
    )
    return tuple(sorted({number, *alike}))


@cache
def _radii() -> dict[int, float]:
    """Atomic radii (Slater) in Angstrom of the elements up to bismuth, without noble gases."""
    elements = _pymatgen_elements()
    found = {z: elements[z].atomic_radius for z in range(1, 84) if not elements[z].is_noble_gas}
    return {z: float(radius) for z, radius in found.items() if radius is not None}


@cache
def _oxidation_states() -> dict[int, frozenset[int]]:
    elements = _pymatgen_elements()
    return {z: frozenset(map(int, elements[z].common_oxidation_states)) for z in range(1, 84)}


@cache
def _pymatgen_elements() -> dict[int, Any]:
    element = optional("pymatgen.core", "crystals", "this").Element
    return {z: element.from_Z(z) for z in range(1, 84)}


def _split_by_group(digests: list[str]) -> Ints:
    """Split (S,) that tests on a tenth of the groups (equal digests), whatever their sizes."""
    names = sorted(set(digests))
    held_out = set(names[: max(1, round(HELD_OUT.share * len(names)))])
    return np.array([TEST if name in held_out else TRAIN for name in digests], dtype=np.int64)

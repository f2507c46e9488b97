"""Structures in files that readers of other packages know."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from openunite.data.atoms.convert import structure_of
from openunite.data.atoms.files import UNREADABLE
from openunite.data.atoms.structure import Structure
from openunite.data.holdout import Skipped
from openunite.data.readers import Reader


def read_foreign(reader: Reader, path: Path) -> Iterator[Structure | Skipped]:
    """The records that a reader finds; objects of ASE, RDKit and pymatgen become `Structure`."""
    try:
        for number, item in enumerate(reader.read(path), start=1):
            if isinstance(item, Skipped):
                yield item
                continue
            found = structure_of(item)
            yield replace(found, name=found.name or f"{path.name}, record {number}")
    except (*UNREADABLE, ValueError) as error:
        yield Skipped(path.name, f"cannot be read: {error}")

"""Write molecules and crystals to files."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from openunite.data.atoms.cif import write_cif
from openunite.data.atoms.convert import write_sdf
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import write_xyz
from openunite.progress import say

WRITERS: dict[str, Callable[[Path, Iterable[Structure]], int | None]] = {
    ".xyz": write_xyz,
    ".extxyz": write_xyz,
    ".sdf": write_sdf,
    ".cif": write_cif,
}


def write_structures(path: Path, structures: Iterable[Structure]) -> int:
    """Write the structures that this kind of file can hold, and return their number.

    An .sdf holds molecules, a .cif crystals. Structures with NaN (a lattice that no cell can have
    becomes NaN) are left out of any file. A message counts what is left out. The structures are
    iterated over once.
    """
    suffix = path.suffix.lower()
    other = "came out as the other kind"
    broken = "have an impossible cell or place (not a finite number)"
    counts = dict.fromkeys(("", other, broken), 0)

    def sound() -> Iterator[Structure]:
        for item in structures:
            kinds = {".cif": item.cell is None, ".sdf": item.cell is not None}
            fault = other if kinds.get(suffix) else "" if item.is_finite else broken
            counts[fault] += 1
            if not fault:
                yield item

    bare = WRITERS[suffix](path, sound()) or 0
    for fault in (other, broken):
        if counts[fault]:
            total = sum(counts.values())
            say(f"{counts[fault]} of {total} {fault}: left out of {path}", err=True)
    if bare:
        say(f"{bare} of {counts['']} are in {path} without bonds (ions?)", err=True)
    return counts[""]

"""Write molecules and crystals to files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from openunite.data.atoms.cif import write_cif
from openunite.data.atoms.convert import write_sdf
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import write_xyz
from openunite.progress import say

WRITERS: dict[str, Callable[[Path, Sequence[Structure]], int | None]] = {
    ".xyz": write_xyz,
    ".extxyz": write_xyz,
    ".sdf": write_sdf,
    ".cif": write_cif,
}


def write_structures(path: Path, structures: Sequence[Structure]) -> int:
    """Write the structures that this kind of file can hold, and return their number.

    An .sdf holds molecules, a .cif crystals. Structures with NaN (a lattice that no cell can have
    becomes NaN) are left out of any file. A message counts what is left out.
    """
    suffix = path.suffix.lower()
    fit = [item for item in structures if _fits(item, suffix)]
    finite = [item for item in fit if item.is_finite]
    bare = WRITERS[suffix](path, finite) or 0
    for count, what in (
        (len(structures) - len(fit), "came out as the other kind"),
        (len(fit) - len(finite), "have an impossible cell or place (not a finite number)"),
    ):
        if count:
            say(f"{count} of {len(structures)} {what}: left out of {path}", err=True)
    if bare:
        say(f"{bare} of {len(finite)} are in {path} without bonds (ions?)", err=True)
    return len(finite)


def _fits(structure: Structure, suffix: str) -> bool:
    periodic = structure.cell is not None
    return periodic if suffix == ".cif" else not (periodic and suffix == ".sdf")

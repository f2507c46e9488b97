"""Structures to and from ASE, RDKit and pymatgen, and SDF files.

Each package is imported when its function is called; an ImportError names what to install.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openunite.data.atoms.elements import atomic_number
from openunite.data.atoms.structure import Structure
from openunite.files import atomic_file
from openunite.optional import optional

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Molecule
    from pymatgen.core import Structure as Crystal
    from rdkit.Chem import Mol

_MAX_BOND_ORDERS = 10_000  # iterations of RDKit; without a limit a bad geometry can take hours


def to_ase(structure: Structure) -> "Atoms":
    """ASE Atoms, periodic in all directions if there is a cell; `info["name"]` keeps the name."""
    found: Atoms = optional("ase", "molecules", "this").Atoms(
        numbers=structure.numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.cell is not None,
        info={"name": structure.name},
    )
    return found


def from_ase(atoms: Any) -> Structure:
    """ASE Atoms -> Structure; the cell is dropped if no direction is periodic.

    ValueError if only some directions are; TypeError if `atoms` is something else.
    """
    try:
        numbers, positions = atoms.get_atomic_numbers(), atoms.get_positions()
        periodic, cell = atoms.get_pbc(), np.array(atoms.get_cell())
    except AttributeError as error:
        raise TypeError(f"expected ASE Atoms, got {type(atoms).__name__}") from error
    if periodic.any() and not periodic.all():
        raise ValueError("is periodic in some directions only; set pbc to True or False")
    return Structure(
        np.asarray(numbers, dtype=np.int64),
        np.array(positions, dtype=np.float64),
        cell if periodic.all() else None,
        str(atoms.info.get("name", "")),
    )


def to_rdkit(structure: Structure) -> "Mol":
    """An RDKit molecule with one conformer and all hydrogens as atoms.

    Bonds, bond orders and charges are perceived from the coordinates (DetermineBonds, total charge
    0). Where that fails, for instance on a broken geometry, the molecule has atoms and no bonds.
    Atom order is kept.
    """
    Chem = optional("rdkit.Chem", "molecules", "this")
    from rdkit.Chem.rdDetermineBonds import DetermineBonds
    from rdkit.Geometry import Point3D
    from rdkit.rdBase import BlockLogs

    editable = Chem.RWMol()
    conformer = Chem.Conformer(len(structure))
    for i, (number, position) in enumerate(
        zip(structure.numbers.tolist(), structure.positions.tolist(), strict=True)
    ):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        editable.AddAtom(atom)
        conformer.SetAtomPosition(i, Point3D(*position))
    editable.AddConformer(conformer, assignId=True)
    bare = editable.GetMol()
    bare.SetProp("_Name", " ".join(structure.name.split()))  # the title is one line
    bonded = Chem.Mol(bare)
    silence = BlockLogs()
    try:
        DetermineBonds(bonded, charge=0, maxIterations=_MAX_BOND_ORDERS)
        Chem.SanitizeMol(bonded)
    except (ValueError, RuntimeError):
        return bare
    finally:
        del silence
    return bonded


def from_rdkit(molecule: Any) -> Structure:
    """The atoms of the first conformer. ValueError without one, or with implicit hydrogens.

    A 2D conformer is a drawing and counts as none.
    """
    if not molecule.GetNumConformers() or not molecule.GetConformer().Is3D():
        raise ValueError("the molecule has no coordinates; embed it first (EmbedMolecule)")
    implicit = sum(atom.GetNumImplicitHs() for atom in molecule.GetAtoms())
    if implicit:
        raise ValueError(
            f"{implicit} hydrogens are implicit, expected atoms; call Chem.AddHs with addCoords"
        )
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64)
    name = molecule.GetProp("_Name") if molecule.HasProp("_Name") else ""
    return Structure(numbers, np.array(molecule.GetConformer().GetPositions()), None, name)


def to_pymatgen(structure: Structure) -> "Molecule | Crystal":
    """A pymatgen Molecule, or a Structure if there is a cell. Coordinates are kept as they are."""
    core = optional("pymatgen.core", "crystals", "this")
    numbers = structure.numbers.tolist()
    found: Molecule | Crystal
    if structure.cell is None:
        found = core.Molecule(numbers, structure.positions)
    else:
        lattice = core.Lattice(structure.cell)
        found = core.Structure(lattice, numbers, structure.positions, coords_are_cartesian=True)
    return found


def from_pymatgen(found: Any, name: str = "") -> Structure:
    """A pymatgen Structure or Molecule. ValueError on a site that is not exactly one element."""
    for i, site in enumerate(found):
        if len(site.species) != 1 or abs(sum(site.species.values()) - 1.0) > 1e-6:
            raise ValueError(
                f"site {i} is occupied by {site.species_string}, expected exactly one element"
            )
    lattice = getattr(found, "lattice", None)
    return Structure(
        np.array([site.specie.Z for site in found], dtype=np.int64),
        np.array(found.cart_coords, dtype=np.float64).reshape(-1, 3),
        None if lattice is None else np.array(lattice.matrix, dtype=np.float64),
        name,
    )


def write_sdf(path: str | Path, structures: Iterable[Structure]) -> int:
    """Write one record per molecule: the bonds that `to_rdkit` perceives, and the name as title.

    Returns how many molecules of more than one atom were written without any bond.
    """
    Chem = optional("rdkit.Chem", "molecules", "this")
    bare = 0
    with atomic_file(Path(path)) as file:
        for item in structures:
            molecule = to_rdkit(item)
            bare += len(item) > 1 and molecule.GetNumBonds() == 0
            file.write(Chem.SDWriter.GetText(molecule).encode())
    return bare


def from_dict(found: Any, name: str = "") -> Structure:
    """A Structure from the JSON of pymatgen (`Structure.as_dict`) or JARVIS (`Atoms.to_dict`).

    ValueError for another layout, and for a site that is not exactly one element.
    """
    try:
        if "lattice_mat" in found:
            cell = np.array(found["lattice_mat"], dtype=np.float64)
            symbols, places = found["elements"], np.array(found["coords"], dtype=np.float64)
            positions = places if found["cartesian"] else places @ cell
        else:
            cell = np.array(found["lattice"]["matrix"], dtype=np.float64)
            species = [site["species"] for site in found["sites"]]
            for i, each in enumerate(species):
                if len(each) != 1 or abs(each[0]["occu"] - 1.0) > 1e-3:
                    raise ValueError(f"site {i} is occupied by {each}, expected one element")
            symbols = [each[0]["element"] for each in species]
            positions = np.array([site["abc"] for site in found["sites"]], dtype=np.float64) @ cell
        numbers = np.array([atomic_number(symbol) for symbol in symbols], dtype=np.int64)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"expected a structure as pymatgen or JARVIS write it, got other JSON ({error!r})"
        ) from error
    return Structure(numbers, positions, cell, name)


def is_structure(item: Any) -> bool:
    """Whether `item` is a single structure or a string, even though it may be iterable."""
    return isinstance(item, Structure | str) or _package(item) in _KNOWN


def structure_of(item: Any) -> Structure:
    """A `Structure` from one of ASE, RDKit or pymatgen, told apart by the package of its class.

    ValueError for any other object, and for one that cannot be converted.
    """
    if isinstance(item, Structure):
        return item
    if _package(item) not in _KNOWN:
        raise ValueError(
            f"expected ASE Atoms, RDKit molecules or pymatgen structures, got a "
            f"{type(item).__name__} of {_package(item)}"
        )
    return _KNOWN[_package(item)](item)


def _package(item: Any) -> str:
    return type(item).__module__.partition(".")[0]


_KNOWN = {"ase": from_ase, "rdkit": from_rdkit, "pymatgen": from_pymatgen}

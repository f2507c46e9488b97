"""The protocol of ADiT: OpenBabel finds bonds, RDKit reads them back from a PDB record.

This is the only module that uses OpenBabel, which is under the GPL: it is imported when a function
runs, and comes with the extra `molecules-adit`. As in ADiT's evaluation, RDKit sanitizes molecules
and adds its own bonds by proximity to those in the record; that makes about 5 % of real QM9
molecules invalid, so report the value of real molecules beside any other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.measured import Column
from openunite.evaluation.molecules.smiles import molecule_smiles
from openunite.evaluation.pairs import check_pairs
from openunite.evaluation.rates import average, rate
from openunite.optional import optional

if TYPE_CHECKING:
    from rdkit import Chem

_EXTRA, _OPENBABEL = "molecules-adit", "openbabel.openbabel"
_LAST_ELEMENT = 118


def adit_pdb(structure: Structure) -> str:
    """A PDB record with bonds by OpenBabel; CONECT entries are repeated for double and triple.

    No file is written. Raises ValueError for coordinates that are not finite, an atomic number that
    is no element, or no atoms at all.
    """
    openbabel = optional(_OPENBABEL, _EXTRA)
    _check(structure)
    molecule = openbabel.OBMol()
    molecule.BeginModify()
    for number, position in zip(structure.numbers, structure.positions, strict=True):
        atom = molecule.NewAtom()
        atom.SetAtomicNum(int(number))
        atom.SetVector(*map(float, position))
    with _quiet():
        molecule.ConnectTheDots()
        molecule.PerceiveBondOrders()
        molecule.SetTotalSpinMultiplicity(1 + int(structure.numbers.sum()) % 2)
        molecule.SetTotalCharge(0)
        molecule.Center()
        molecule.EndModify()
        conversion = openbabel.OBConversion()
        conversion.SetOutFormat("pdb")
        return str(conversion.WriteString(molecule))


def adit_molecule(structure: Structure, *, remove_hydrogens: bool = False) -> "Chem.Mol | None":
    """The RDKit molecule of `adit_pdb`, None where RDKit finds it invalid.

    `remove_hydrogens` removes hydrogens from the graph while reading; papers differ in this, and it
    changes results by two to three percentage points.
    """
    chem, rd_base = optional("rdkit.Chem", _EXTRA), optional("rdkit.rdBase", _EXTRA)
    try:
        block = adit_pdb(structure)
    except ValueError:
        return None
    with rd_base.BlockLogs():
        molecule: Chem.Mol | None = chem.MolFromPDBBlock(
            block, sanitize=True, removeHs=remove_hydrogens, proximityBonding=True
        )
    return molecule


def adit_smiles(structure: Structure, *, remove_hydrogens: bool = False) -> str | None:
    """Isomeric SMILES of the largest fragment; None where invalid."""
    return molecule_smiles(adit_molecule(structure, remove_hydrogens=remove_hydrogens))


def adit_rmsd(outputs: Sequence[Structure], references: Sequence[Structure]) -> Floats:
    """RMSD in Angstrom (M,) by pymatgen's MoleculeMatcher; infinite where a pair does not match.

    Atoms are paired by the labels of the InChI, which confuses equivalent atoms: a perfect output
    scores 0.009 A on QM9. Atom order does not matter here; `kabsch_rmsd` is stricter.
    """
    check_pairs(outputs, references)
    molecule = optional("pymatgen.core", _EXTRA).Molecule
    optional(_OPENBABEL, _EXTRA)  # without it, every pair would silently count as no match
    matching = optional("pymatgen.analysis.molecule_matcher", _EXTRA)
    matcher = matching.MoleculeMatcher(tolerance=0.01)  # the tolerance plays no part in get_rmsd
    result = np.full(len(outputs), np.inf)
    for i, pair in enumerate(zip(outputs, references, strict=True)):
        with _quiet():
            try:
                for each in pair:
                    _check(each)
                first, second = (molecule(each.numbers.tolist(), each.positions) for each in pair)
                result[i] = matcher.get_rmsd(first, second)
            except Exception:  # the protocol: any failure is no match
                continue
    return result


def adit_match(outputs: Sequence[Structure], references: Sequence[Structure]) -> Column:
    """The fraction of pairs that match, and the mean RMSD (Angstrom) of those, 0 if none does."""
    rmsd = adit_rmsd(outputs, references)
    matched = rmsd[np.isfinite(rmsd)]
    return {"adit_match_rate": rate(len(matched), len(rmsd)), "adit_rmsd": average(matched)}


def _check(structure: Structure) -> None:
    numbers = structure.numbers
    if len(numbers) == 0 or not np.isfinite(structure.positions).all():
        raise ValueError(f"{structure.name or 'molecule'}: expected atoms at finite coordinates")
    if numbers.min() < 1 or numbers.max() > _LAST_ELEMENT:
        raise ValueError(
            f"{structure.name or 'molecule'}: expected atomic numbers from 1 to {_LAST_ELEMENT}, "
            f"got {numbers.min()} to {numbers.max()}"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence OpenBabel inside the block, and restore its level of messages afterwards."""
    log = optional(_OPENBABEL, _EXTRA).obErrorLog
    level = log.GetOutputLevel()
    log.SetOutputLevel(-1)
    try:
        yield
    finally:
        log.SetOutputLevel(level)

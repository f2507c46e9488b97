"""The molecules and SMILES of EDM: RDKit checks the graph of bonds from `edm`.

Hydrogens are atoms of the graph and charges are not used, so groups that need them, such as nitro,
fail. An element outside H, C, N, O, F makes a molecule invalid.
"""

from typing import TYPE_CHECKING

import numpy as np

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.edm import bond_orders, unknown_atoms
from openunite.evaluation.molecules.smiles import molecule_smiles
from openunite.optional import optional

if TYPE_CHECKING:
    from rdkit import Chem


def edm_molecule(structure: Structure) -> "Chem.Mol | None":
    """The sanitized RDKit molecule of the EDM bonds, with its coordinates; None where invalid."""
    chem, rd_base = optional("rdkit.Chem", "molecules"), optional("rdkit.rdBase", "molecules")
    if (
        len(structure) == 0
        or unknown_atoms(structure)
        or not np.isfinite(structure.positions).all()
    ):
        return None
    orders = bond_orders(structure)
    kinds = {1: chem.BondType.SINGLE, 2: chem.BondType.DOUBLE, 3: chem.BondType.TRIPLE}
    graph = chem.RWMol()
    for number in structure.numbers:
        graph.AddAtom(chem.Atom(int(number)))
    for first, second in np.argwhere(np.triu(orders)):
        graph.AddBond(int(first), int(second), kinds[int(orders[first, second])])
    conformer = chem.Conformer(len(structure))
    conformer.SetPositions(np.ascontiguousarray(structure.positions, dtype=np.float64))
    graph.AddConformer(conformer)
    with rd_base.BlockLogs():
        try:
            chem.SanitizeMol(graph)
        except ValueError:  # the base of RDKit's sanitization errors
            return None
    molecule: Chem.Mol = graph.GetMol()
    return molecule


def edm_smiles(structure: Structure) -> str | None:
    """SMILES of the largest fragment by EDM bonds, with all hydrogens; None where invalid."""
    return molecule_smiles(edm_molecule(structure))

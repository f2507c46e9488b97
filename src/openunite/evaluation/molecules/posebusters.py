"""PoseBusters' checks of the geometry of molecules, on a random part of a set.

The ten columns of ADiT's evaluation are taken by name from the configuration `mol`, so that a later
version of PoseBusters with more columns gives the same ones. Each is a fraction of the molecules
that are valid by the ADiT protocol, "posebusters" that of those which pass all ten.

`internal_energy` compares with conformers that RDKit embeds; where it embeds none, as for some
strained cages, or finds no InChI, the check has no result. Such a molecule is left out of that
column and does not pass overall.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from openunite.data.atoms.structure import Structure
from openunite.evaluation.measured import Column
from openunite.evaluation.molecules.adit import adit_molecule
from openunite.evaluation.rates import rate
from openunite.optional import optional
from openunite.progress import bar

if TYPE_CHECKING:
    from rdkit import Chem

COLUMNS = (
    "mol_pred_loaded",
    "sanitization",
    "inchi_convertible",
    "all_atoms_connected",
    "bond_lengths",
    "bond_angles",
    "internal_steric_clash",
    "aromatic_ring_flatness",
    "double_bond_flatness",
    "internal_energy",
)
Checks = dict[str, bool | None]  # None: the check has no result


def posebusters_scores(
    structures: Sequence[Structure], *, num_molecules: int = 500, seed: int = 0
) -> Column:
    """Pass rates of `num_molecules` structures drawn at random, or of all if there are fewer.

    Takes one to two seconds for each valid molecule of QM9, most of it for `internal_energy`. Shows
    progress.
    """
    order = np.random.default_rng(seed).permutation(len(structures))[:num_molecules]
    found = [adit_molecule(structures[i]) for i in sorted(order)]
    valid = [molecule for molecule in found if molecule is not None]
    checks = posebusters_checks(valid)
    scores = {"posebusters": rate(sum(all(check.values()) for check in checks), len(checks))}
    for name in COLUMNS:
        decided = [check[name] for check in checks if check[name] is not None]
        scores[f"posebusters_{name}"] = rate(sum(map(bool, decided)), len(decided))
    return scores


def posebusters_checks(molecules: Sequence["Chem.Mol"]) -> list[Checks]:
    """The ten checks of every molecule, which must have coordinates and all hydrogens."""
    buster = optional("posebusters", "molecules-adit").PoseBusters(config="mol")
    results = []
    for molecule in bar(molecules, desc="PoseBusters", disable=None, leave=False):
        with _quiet():
            row = buster.bust([molecule]).iloc[0]
        results.append({name: _decided(row[name]) for name in COLUMNS})
    return results


def _decided(value: Any) -> bool | None:
    """The result of a check; NaN and missing values become None."""
    return bool(value) if isinstance(value, bool | np.bool_) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence PoseBusters and RDKit inside the block."""
    rd_base = optional("rdkit.rdBase", "molecules-adit")
    logger, silent = logging.getLogger("posebusters"), logging.NullHandler()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(silent)
    try:
        with rd_base.BlockLogs():
            yield
    finally:
        logger.removeHandler(silent)
        logger.propagate = propagate

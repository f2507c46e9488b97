"""Validity, uniqueness and novelty of molecules, by the SMILES that a protocol finds for them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from openunite.data.atoms.structure import Structure
from openunite.evaluation.measured import Column
from openunite.evaluation.rates import rate
from openunite.optional import optional
from openunite.progress import bar

if TYPE_CHECKING:
    from rdkit import Chem


def smiles_scores(
    smiles: Sequence[str | None],
    train_smiles: Collection[str] | None = None,
    *,
    novelty_among_valid: bool = False,
) -> Column:
    """Validity among all, uniqueness among the valid, and novelty of SMILES, None where invalid.

    `valid_and_unique`, distinct valid molecules among all, is what some tables call "unique".
    Novelty is |unique and not in training| over |unique|, as EDM counts, or over |valid|, as ADiT
    does; without `train_smiles` it is left out. They must come from the protocol of `smiles`:
    another way of perceiving bonds makes known molecules look new.

    Uniqueness falls as a set grows: compare sets of one size. The errors of uniqueness and novelty
    assume independent trials, so they are only rough.
    """
    valid = [found for found in smiles if found is not None]
    unique = set(valid)
    scores = {
        "validity": rate(len(valid), len(smiles)),
        "uniqueness": rate(len(unique), len(valid)),
        "valid_and_unique": rate(len(unique), len(smiles)),
    }
    if train_smiles is not None:
        among = len(valid) if novelty_among_valid else len(unique)
        scores["novelty"] = rate(len(unique.difference(train_smiles)), among)
    return scores


def smiles_set(
    structures: Iterable[Structure], to_smiles: Callable[[Structure], str | None]
) -> frozenset[str]:
    """The SMILES of the valid molecules of a training set, for novelty; shows progress.

    A molecule takes about 1 ms with `edm_smiles` and 1.5 ms with `adit_smiles`: keep the result.
    """
    found = map(to_smiles, bar(structures, desc="training SMILES", disable=None, leave=False))
    return frozenset(smiles for smiles in found if smiles is not None)


def molecule_smiles(molecule: "Chem.Mol | None") -> str | None:
    """Isomeric SMILES of the largest connected fragment; of equally large ones, the first."""
    if molecule is None:
        return None
    chem, rd_base = optional("rdkit.Chem", "molecules"), optional("rdkit.rdBase", "molecules")
    with rd_base.BlockLogs():
        parts = chem.GetMolFrags(molecule, asMols=True)
        return str(chem.MolToSmiles(max(parts, key=lambda part: part.GetNumAtoms())))

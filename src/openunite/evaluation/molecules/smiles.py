"""Validity, uniqueness and novelty of molecules, by the SMILES that a protocol finds for them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openunite.data.atoms.structure import Structure
from openunite.evaluation.rates import Rate
from openunite.optional import optional
from openunite.progress import bar

if TYPE_CHECKING:
    from rdkit import Chem

ToSmiles = Callable[[Structure], str | None]


@dataclass(frozen=True)
class SmilesScores:
    """Validity among all, uniqueness among the valid, novelty among those that the protocol counts.

    `valid_and_unique`, distinct valid molecules among all, is what some tables call "unique".
    Uniqueness falls as a set grows: compare sets of one size. `novelty` is None where no training
    SMILES were given. The errors of uniqueness and novelty assume independent trials, so they are
    only rough.
    """

    validity: Rate
    uniqueness: Rate
    valid_and_unique: Rate
    novelty: Rate | None


def smiles_scores(
    smiles: Sequence[str | None],
    train_smiles: Collection[str] | None,
    *,
    novelty_among_valid: bool,
) -> SmilesScores:
    """Count SMILES, None for an invalid molecule, against those of the training set.

    `train_smiles` must come from the same protocol as `smiles`: another way of perceiving bonds
    makes known molecules look new. Novelty is |unique and not in training| over |unique|, or over
    |valid| if `novelty_among_valid`.
    """
    valid = [found for found in smiles if found is not None]
    unique = set(valid)
    novelty = None
    if train_smiles is not None:
        new = len(unique.difference(train_smiles))
        novelty = Rate.of(new, len(valid) if novelty_among_valid else len(unique))
    return SmilesScores(
        validity=Rate.of(len(valid), len(smiles)),
        uniqueness=Rate.of(len(unique), len(valid)),
        valid_and_unique=Rate.of(len(unique), len(smiles)),
        novelty=novelty,
    )


def smiles_set(structures: Iterable[Structure], to_smiles: ToSmiles) -> frozenset[str]:
    """The SMILES of the valid molecules of a training set; shows progress.

    A molecule takes about 1 ms with `edm_smiles` and 1.5 ms with `adit_smiles`: keep the result.
    """
    found = map(to_smiles, bar(structures, desc="training SMILES", disable=None, leave=False))
    return frozenset(smiles for smiles in found if smiles is not None)


def molecule_smiles(molecule: "Chem.Mol") -> str:
    """Isomeric SMILES of the largest connected fragment; of equally large ones, the first."""
    chem, rd_base = optional("rdkit.Chem", "molecules"), optional("rdkit.rdBase", "molecules")
    with rd_base.BlockLogs():
        parts = chem.GetMolFrags(molecule, asMols=True)
        return str(chem.MolToSmiles(max(parts, key=lambda part: part.GetNumAtoms())))

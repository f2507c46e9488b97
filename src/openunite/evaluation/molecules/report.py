"""Metrics of molecules, each beside its value on real, held-out molecules.

Protocols, from the lightest: `stability` needs only numpy; `edm` adds validity, uniqueness and
novelty (RDKit); `adit` repeats those with bonds from OpenBabel; `posebusters` checks the geometry
of a random part, slowly. Values of different protocols are not comparable. Real molecules get less
than 1 in all of them, and a perfect model gets no more than real molecules.
"""

from collections.abc import Collection, Sequence

import numpy as np

from openunite.data.atoms.structure import Structure
from openunite.evaluation.measured import Column, Flat, Measured
from openunite.evaluation.molecules.adit import adit_match, adit_smiles
from openunite.evaluation.molecules.edm import edm_stability
from openunite.evaluation.molecules.edm_rdkit import edm_smiles
from openunite.evaluation.molecules.posebusters import posebusters_scores
from openunite.evaluation.molecules.smiles import smiles_scores
from openunite.evaluation.pairs import kabsch_rmsd, type_accuracy
from openunite.evaluation.report import Report, check_sets

PROTOCOLS = ("stability", "edm", "adit", "posebusters")


def molecule_report(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    *,
    train_smiles: Collection[str] | None = None,
    adit_train_smiles: Collection[str] | None = None,
    protocols: Collection[str] = ("edm",),
    num_posebusters: int = 500,
    reconstructions: Sequence[Structure] | None = None,
    free: Sequence[Structure] = (),
) -> Report:
    """Score generated molecules and real, held-out ones in the same way.

    Pass about as many real molecules as samples, because uniqueness depends on the number. Novelty
    needs training SMILES, a `smiles_set`: `train_smiles` by `edm_smiles`, `adit_train_smiles` by
    `adit_smiles`. PoseBusters gets `num_posebusters` random molecules of either set. If there are
    `unknown_atoms`, of elements that the EDM tables lack, stability and EDM validity say little.

    With `reconstructions`, one per reference molecule and in the same order: accuracies of elements
    and RMSDs in Angstrom, atom i against atom i, stability, and by `adit` the match rate; the
    column "real" then has what a perfect output would get.

    `free` are samples without a formula of a model whose `samples` get one. Their stability, in the
    column "no formula", compares with models that choose the elements themselves.

    Raises ValueError for an unknown protocol or an empty set, and ImportError, which names the
    extra, if a protocol's package is missing.
    """
    unknown = sorted(set(protocols).difference(PROTOCOLS))
    if unknown or not protocols:
        raise ValueError(f"expected protocols among {', '.join(PROTOCOLS)}, got {list(protocols)}")
    check_sets("molecule", samples, reference, reconstructions)
    counts: Flat = {"num_samples": len(samples), "num_real": len(reference)}
    columns = {
        name: _scores(structures, train_smiles, adit_train_smiles, protocols, num_posebusters)
        for name, structures in (("samples", samples), ("real", reference))
    }
    if reconstructions is not None:
        counts["num_reconstructions"] = len(reconstructions)
        rebuilt = type_accuracy(reconstructions, reference, "molecule")
        rmsd = kabsch_rmsd(reconstructions, reference)
        error = float(rmsd.std() / np.sqrt(len(rmsd)))
        rebuilt["identity_rmsd"] = Measured(float(rmsd.mean()), error)
        columns["reconstructions"] = rebuilt
        for name, outputs in (("reconstructions", reconstructions), ("real", reference)):
            stability = edm_stability(outputs)
            columns[name] |= {x: stability[x] for x in ("atom_stability", "molecule_stability")}
            if "adit" in protocols:
                columns[name] |= adit_match(outputs, reference)
    if free:
        columns["no formula"] = edm_stability(free)
    return Report("molecules", columns, counts)


def _scores(
    structures: Sequence[Structure],
    train_smiles: Collection[str] | None,
    adit_train_smiles: Collection[str] | None,
    protocols: Collection[str],
    num_posebusters: int,
) -> Column:
    column = edm_stability(structures)
    if not {"stability", "edm"}.intersection(protocols):
        column = {"unknown_atoms": column["unknown_atoms"]}
    if "edm" in protocols:
        column |= smiles_scores([edm_smiles(each) for each in structures], train_smiles)
    if "adit" in protocols:
        whole = [adit_smiles(each) for each in structures]
        bare = [adit_smiles(each, remove_hydrogens=True) for each in structures]
        scores = smiles_scores(whole, adit_train_smiles, novelty_among_valid=True)
        column |= {f"adit_{name}": found for name, found in scores.items()}
        column |= {f"adit_no_h_{name}": found for name, found in smiles_scores(bare).items()}
    if "posebusters" in protocols:
        column |= posebusters_scores(structures, num_molecules=num_posebusters)
    return column

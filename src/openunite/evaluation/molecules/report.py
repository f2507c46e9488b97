"""Metrics of molecules, each beside its value on real, held-out molecules.

Protocols, from the lightest: `stability` needs only numpy; `edm` adds validity, uniqueness and
novelty (RDKit); `adit` repeats those with bonds from OpenBabel; `posebusters` checks the geometry
of a random part, slowly. Values of different protocols are not comparable. Real molecules get less
than 1 in all of them, and a perfect model gets no more than real molecules.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from openunite.data.atoms.structure import Structure
from openunite.evaluation.measured import Flat, Measured
from openunite.evaluation.molecules.adit import adit_match, adit_scores
from openunite.evaluation.molecules.edm import EdmStability, edm_stability
from openunite.evaluation.molecules.edm_rdkit import edm_scores
from openunite.evaluation.molecules.posebusters import posebusters_scores
from openunite.evaluation.molecules.reconstruction import kabsch_rmsd, type_accuracy
from openunite.evaluation.molecules.smiles import SmilesScores
from openunite.evaluation.molecules.table import cell, flat_metrics
from openunite.evaluation.rates import Rate

PROTOCOLS = ("stability", "edm", "adit", "posebusters")
Column = dict[str, Measured]

_IN_ORDER = (
    *("atom_type_accuracy", "molecule_type_accuracy", "identity_rmsd"),
    *("atom_stability", "molecule_stability", "adit_match_rate", "adit_rmsd"),
)


@dataclass(frozen=True)
class MoleculeReport:
    """The same metrics for the columns "samples" and "real", stability also for "free".

    `unknown_atoms` counts atoms of elements that the EDM tables lack; if there are any, stability
    and EDM validity say little.
    """

    columns: dict[str, Column]
    num_samples: int
    num_real: int

    def _free_lines(self, width: int) -> list[str]:
        free = self.columns.get("free", {})
        lines = [f"{name:{width}}  {cell(name, m)}" for name, m in free.items()]
        return ["without a formula, as EDM samples:", *lines] if lines else []

    @property
    def metrics(self) -> Flat:
        """Flat: `sample_NAME`, `real_NAME`, `free_NAME`; standard errors `_se`, totals `_of`."""
        counts: Flat = {"num_samples": self.num_samples, "num_real": self.num_real}
        return counts | flat_metrics(self.columns)

    def table(self) -> str:
        """Plain text, in percent with standard errors and totals."""
        samples, real = dict(self.columns["samples"]), dict(self.columns["real"])
        unknown = [int(column.pop("unknown_atoms").value) for column in (samples, real)]
        width = max(map(len, samples))
        lines = [
            f"{'percent':{width}}  {f'{self.num_samples} samples':>27}  "
            f"{f'{self.num_real} real molecules':>27}"
        ]
        for name, found in samples.items():
            lines.append(f"{name:{width}}  {cell(name, found)}  {cell(name, real[name])}")
        lines += self._free_lines(width)
        if any(unknown):
            lines.append(
                f"{unknown[0]} and {unknown[1]} atoms are not H, C, N, O or F: unstable and "
                "invalid by EDM"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class ReconstructionReport:
    """The columns "reconstructions" and "real" (their originals) for `count` pairs."""

    columns: dict[str, Column]
    count: int

    @property
    def metrics(self) -> Flat:
        """Flat metrics, with `_se` and `_of` as in `MoleculeReport`."""
        return {"num_reconstructions": self.count} | flat_metrics(self.columns)

    def table(self) -> str:
        """Plain text, reconstructions beside the real molecules."""
        heads = f"{f'{self.count} reconstructions':>27}  {f'{self.count} real molecules':>27}"
        lines = [f"{'percent, RMSD in A':22}  {heads}"]
        for name in _IN_ORDER:
            found = [column[name] for column in self.columns.values() if name in column]
            if found:
                cells = "  ".join(cell(name, each) for each in found)
                lines.append(f"{name:22}  {cells}".rstrip())
        return "\n".join(lines)


def molecule_report(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    *,
    free: Sequence[Structure] = (),
    train_smiles: Collection[str] | None = None,
    adit_train_smiles: Collection[str] | None = None,
    protocols: Collection[str] = ("edm",),
    num_posebusters: int = 500,
) -> MoleculeReport:
    """Score generated molecules and real, held-out ones in the same way.

    Pass about as many real molecules as samples, because uniqueness depends on the number. `free`
    are samples without a formula of a model whose samples get one: they compare with models that
    choose the elements themselves. Novelty needs training SMILES: `train_smiles` from
    `edm_smiles_set`, `adit_train_smiles` from `adit_smiles_set`. PoseBusters gets
    `num_posebusters` random molecules of either set. Raises ValueError for an unknown protocol or
    an empty set, and ImportError, which names the extra, if a protocol's package is missing.
    """
    unknown = sorted(set(protocols).difference(PROTOCOLS))
    if unknown or not protocols:
        raise ValueError(f"expected protocols among {', '.join(PROTOCOLS)}, got {list(protocols)}")
    for name, structures in (("samples", samples), ("reference", reference)):
        if len(structures) == 0:
            raise ValueError(f"{name}: expected at least one molecule, got none")
    found = [
        _rates(structures, train_smiles, adit_train_smiles, protocols, num_posebusters)
        for structures in (samples, reference)
    ]
    columns = dict(zip(("samples", "real"), found, strict=True))
    if free:
        columns["free"] = _measured(_stability(edm_stability(free)))
    return MoleculeReport(columns, len(samples), len(reference))


def reconstruction_report(
    outputs: Sequence[Structure], references: Sequence[Structure], *, adit: bool
) -> ReconstructionReport:
    """Compare outputs with real molecules, atom i against atom i; RMSDs in Angstrom.

    Stability is computed for both. `adit` adds the match rate and RMSD of the ADiT protocol; those
    of the references are what a perfect output would get.
    """
    types = type_accuracy(outputs, references)
    rmsd = kabsch_rmsd(outputs, references)
    rebuilt: Column = {
        "atom_type_accuracy": types.atoms.measured,
        "molecule_type_accuracy": types.molecules.measured,
        "identity_rmsd": Measured(float(rmsd.mean()), float(rmsd.std() / np.sqrt(len(rmsd)))),
    }
    columns: dict[str, Column] = {"reconstructions": rebuilt, "real": {}}
    for column, structures in zip(columns.values(), (outputs, references), strict=True):
        stability = edm_stability(structures)
        column["atom_stability"] = stability.atoms.measured
        column["molecule_stability"] = stability.molecules.measured
        if adit:
            match = adit_match(structures, references)
            column["adit_match_rate"] = match.rate.measured
            column["adit_rmsd"] = Measured(match.rmsd, match.rmsd_standard_error)
    return ReconstructionReport(columns, len(outputs))


def _rates(
    structures: Sequence[Structure],
    train_smiles: Collection[str] | None,
    adit_train_smiles: Collection[str] | None,
    protocols: Collection[str],
    num_posebusters: int,
) -> Column:
    rates: dict[str, Rate] = {}
    stability = edm_stability(structures)
    if "stability" in protocols or "edm" in protocols:
        rates |= _stability(stability)
    if "edm" in protocols:
        rates |= _named("", edm_scores(structures, train_smiles))
    if "adit" in protocols:
        rates |= _named("adit_", adit_scores(structures, adit_train_smiles))
        rates |= _named("adit_no_h_", adit_scores(structures, remove_hydrogens=True))
    if "posebusters" in protocols:
        scores = posebusters_scores(structures, num_molecules=num_posebusters)
        rates["posebusters"] = scores.overall
        rates |= {f"posebusters_{name}": rate for name, rate in scores.columns.items()}
    unknown = {"unknown_atoms": Measured(stability.unknown_atoms)}
    return unknown | _measured(rates)


def _measured(rates: dict[str, Rate]) -> Column:
    return {name: rate.measured for name, rate in rates.items()}


def _stability(found: EdmStability) -> dict[str, Rate]:
    return {
        "atom_stability": found.atoms,
        "molecule_stability": found.molecules,
        "hydrogen_stability": found.hydrogens,
        "heavy_atom_stability": found.heavy_atoms,
        "connected": found.connected,
    }


def _named(prefix: str, scores: SmilesScores) -> dict[str, Rate]:
    rates = {
        f"{prefix}validity": scores.validity,
        f"{prefix}uniqueness": scores.uniqueness,
        f"{prefix}valid_and_unique": scores.valid_and_unique,
    }
    if scores.novelty is not None:
        rates[f"{prefix}novelty"] = scores.novelty
    return rates

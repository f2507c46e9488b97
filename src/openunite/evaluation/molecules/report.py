"""Metrics of molecules, each beside its value on real, held-out molecules.

Protocols, from the lightest: `stability` needs numpy alone; `edm` adds validity, uniqueness and
novelty (RDKit); `adit` repeats those with bonds by OpenBabel; `posebusters` checks geometry,
slowly, on a random part. Values of different protocols are not comparable. Real molecules get less
than 1 in all of them, and a perfect model no more than those.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from openunite.data.atoms.structure import Structure
from openunite.evaluation.molecules.adit import adit_match, adit_scores
from openunite.evaluation.molecules.edm import edm_stability
from openunite.evaluation.molecules.edm_rdkit import edm_scores
from openunite.evaluation.molecules.posebusters import posebusters_scores
from openunite.evaluation.molecules.reconstruction import kabsch_rmsd, type_accuracy
from openunite.evaluation.molecules.smiles import SmilesScores
from openunite.evaluation.rates import Rate

PROTOCOLS = ("stability", "edm", "adit", "posebusters")
Metrics = dict[str, float | int]

_RECONSTRUCTION = (
    *("atom_type_accuracy", "molecule_type_accuracy", "identity_rmsd"),
    *("atom_stability", "molecule_stability", "adit_match_rate", "adit_rmsd"),
)


@dataclass(frozen=True)
class MoleculeReport:
    """Rates of the samples and of real molecules under the same names.

    `sample_unknown_atoms` and `real_unknown_atoms` count atoms of elements that the EDM tables
    lack; where there are any, stability and EDM validity say little.
    """

    sample: dict[str, Rate]
    real: dict[str, Rate]
    num_samples: int
    num_real: int
    sample_unknown_atoms: int
    real_unknown_atoms: int

    @property
    def metrics(self) -> Metrics:
        """Flat: `sample_NAME` and `real_NAME` in [0, 1], with `_se` and the total as `_of`."""
        result: Metrics = {
            "num_samples": self.num_samples,
            "num_real": self.num_real,
            "sample_unknown_atoms": self.sample_unknown_atoms,
            "real_unknown_atoms": self.real_unknown_atoms,
        }
        for prefix, rates in (("sample", self.sample), ("real", self.real)):
            for name, rate in rates.items():
                result |= _flat(f"{prefix}_{name}", rate)
        return result

    def table(self) -> str:
        """Plain text, in percent with standard errors and what each is a fraction of."""
        width = max(map(len, self.sample))
        lines = [
            f"{'percent':{width}}  {f'{self.num_samples} samples':>27}  "
            f"{f'{self.num_real} real molecules':>27}"
        ]
        for name, rate in self.sample.items():
            lines.append(f"{name:{width}}  {_cell(rate)}  {_cell(self.real[name])}")
        if self.sample_unknown_atoms or self.real_unknown_atoms:
            lines.append(
                f"{self.sample_unknown_atoms} and {self.real_unknown_atoms} atoms are not H, C, N, "
                "O or F: unstable and invalid by EDM"
            )
        return "\n".join(lines)


def molecule_report(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    *,
    train_smiles: Collection[str] | None = None,
    adit_train_smiles: Collection[str] | None = None,
    protocols: Collection[str] = ("edm",),
    num_posebusters: int = 500,
) -> MoleculeReport:
    """Score generated molecules and real, held-out ones alike.

    Pass about as many real molecules as samples: uniqueness depends on the number. Novelty is
    reported where training SMILES are given, from `edm_smiles_set` for `train_smiles` and from
    `adit_smiles_set` for `adit_train_smiles`. `num_posebusters` molecules of either set, drawn at
    random, go through PoseBusters. Raises ValueError for an unknown protocol or an empty
    set, ImportError naming the extra where a protocol's package is missing.
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
    (sample, sample_unknown), (real, real_unknown) = found
    return MoleculeReport(sample, real, len(samples), len(reference), sample_unknown, real_unknown)


def reconstruction_metrics(
    outputs: Sequence[Structure], references: Sequence[Structure], *, adit: bool
) -> Metrics:
    """Flat metrics of outputs against real molecules, atom i against atom i; RMSDs in Angstrom.

    `recon_` stability stands beside the `real_` one of the references. `adit` adds the match rate
    and RMSD of the ADiT protocol, and with `real_` what a perfect output would get. `_se` and
    `_of` as in a report.
    """
    types = type_accuracy(outputs, references)
    rmsd = kabsch_rmsd(outputs, references)
    result: Metrics = {"num_reconstructions": len(outputs)}
    result |= _flat("atom_type_accuracy", types.atoms)
    result |= _flat("molecule_type_accuracy", types.molecules)
    result["identity_rmsd"] = float(rmsd.mean())
    result["identity_rmsd_se"] = float(rmsd.std() / np.sqrt(len(rmsd)))
    for prefix, structures in (("recon", outputs), ("real", references)):
        stability = edm_stability(structures)
        result |= _flat(f"{prefix}_atom_stability", stability.atoms)
        result |= _flat(f"{prefix}_molecule_stability", stability.molecules)
        if adit:
            match = adit_match(structures, references)
            result |= _flat(f"{prefix}_adit_match_rate", match.rate)
            result[f"{prefix}_adit_rmsd"] = match.rmsd
            result[f"{prefix}_adit_rmsd_se"] = match.rmsd_standard_error
    return result


def reconstruction_table(metrics: Metrics) -> str:
    """`reconstruction_metrics` as plain text, reconstructions beside the real molecules."""
    count = metrics["num_reconstructions"]
    heads = f"{f'{count} reconstructions':>27}  {f'{count} real molecules':>27}"
    lines = [f"{'percent, RMSD in A':22}  {heads}"]
    for name in _RECONSTRUCTION:
        found = [key for key in (name, f"recon_{name}", f"real_{name}") if key in metrics]
        if found:
            cells = "  ".join(_flat_cell(metrics, key) for key in found)
            lines.append(f"{name:22}  {cells}".rstrip())
    return "\n".join(lines)


def _rates(
    structures: Sequence[Structure],
    train_smiles: Collection[str] | None,
    adit_train_smiles: Collection[str] | None,
    protocols: Collection[str],
    num_posebusters: int,
) -> tuple[dict[str, Rate], int]:
    rates: dict[str, Rate] = {}
    stability = edm_stability(structures)
    if "stability" in protocols or "edm" in protocols:
        rates["atom_stability"] = stability.atoms
        rates["molecule_stability"] = stability.molecules
        rates["hydrogen_stability"] = stability.hydrogens
        rates["heavy_atom_stability"] = stability.heavy_atoms
    if "edm" in protocols:
        rates |= _named("", edm_scores(structures, train_smiles))
    if "adit" in protocols:
        rates |= _named("adit_", adit_scores(structures, adit_train_smiles))
        rates |= _named("adit_no_h_", adit_scores(structures, remove_hydrogens=True))
    if "posebusters" in protocols:
        scores = posebusters_scores(structures, num_molecules=num_posebusters)
        rates["posebusters"] = scores.overall
        rates |= {f"posebusters_{name}": rate for name, rate in scores.columns.items()}
    return rates, stability.unknown_atoms


def _named(prefix: str, scores: SmilesScores) -> dict[str, Rate]:
    rates = {
        f"{prefix}validity": scores.validity,
        f"{prefix}uniqueness": scores.uniqueness,
        f"{prefix}valid_and_unique": scores.valid_and_unique,
    }
    if scores.novelty is not None:
        rates[f"{prefix}novelty"] = scores.novelty
    return rates


def _flat(name: str, rate: Rate) -> Metrics:
    return {name: rate.value, f"{name}_se": rate.standard_error, f"{name}_of": rate.total}


def _flat_cell(metrics: Metrics, name: str) -> str:
    value, error = metrics[name], metrics[f"{name}_se"]
    if f"{name}_of" not in metrics:  # an RMSD
        return f"{value:6.3f} +- {error:5.3f}{'':12}"
    return _percent(value, error, metrics[f"{name}_of"])


def _cell(rate: Rate) -> str:
    return _percent(rate.value, rate.standard_error, rate.total)


def _percent(value: float, error: float, total: float) -> str:
    return f"{100 * value:6.2f} +- {100 * error:5.2f} of {total:<8}"

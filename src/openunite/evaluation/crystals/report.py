"""All metrics of generated crystals, each beside its value for real ones.

A number says little without its twin: a tenth of the real crystals of MP-20 fails SMACT's rule, and
the match rate cannot exceed the share of references that pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.averages import Average
from openunite.evaluation.crystals.distribution import (
    densities,
    element_counts,
    wasserstein_distance,
)
from openunite.evaluation.crystals.matching import check_pairs, match_scores
from openunite.evaluation.crystals.novelty import novel_crystals, unique_crystals
from openunite.evaluation.crystals.reconstruction import reconstruction_scores
from openunite.evaluation.crystals.table import crystal_table
from openunite.evaluation.crystals.validity import FAULTS, CrystalValidity, crystal_validity
from openunite.evaluation.rates import Rate

Metrics = dict[str, float | int]


@dataclass(frozen=True)
class CrystalReport:
    """Flat metrics; fractions lie in [0, 1], and `x_se` is the standard error of `x`."""

    metrics: Metrics

    def table(self) -> str:
        """Plain text, samples beside real crystals."""
        return crystal_table(self.metrics)


def crystal_report(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    *,
    train: Sequence[Structure] | None = None,
    reconstructions: Sequence[Structure] | None = None,
) -> CrystalReport:
    """Judge samples against held-out real crystals, `reference`; shows progress.

    - `sample_*` and `real_*`: structural, compositional and overall validity among all, as CDVAE
      counts; the same with `_adit`, only for cells with angles in ADiT's range; uniqueness among
      the valid; novelty among the unique, if there is `train`; how many have each of
      `FAULTS`. Uniqueness and novelty of real crystals are taken on as many as there are samples,
      evenly spaced in `reference`, for both depend on that.
    - Wasserstein distances of density (g/cm^3) and of the number of elements between the valid
      samples and the reference; for real crystals, between every second one and the rest.
    - With `reconstructions`, one per reference crystal and in the same order: match rates and RMS
      as in `match_scores`, errors as in `reconstruction_scores`, over all but
      `num_left_out` pairs.

    Errors of uniqueness and novelty are those of independent trials: read them as a scale. A mean
    of nothing, such as the RMS of no match or a distance of no valid sample, is left out.
    Cells are judged as given: reduce those of real crystals (`reduce_cells`), not what a model
    made. ValueError for an empty set or a molecule.
    """
    _check_sets(samples, reference, reconstructions)
    judged = crystal_validity(samples)
    real = crystal_validity(reference)
    metrics: Metrics = {"num_samples": len(samples), "num_reference": len(reference)}
    metrics |= {} if train is None else {"num_train": len(train)}
    valid = _chosen(samples, judged.overall)
    valid_twins = _chosen(reference, real.overall & _spaced(len(samples), len(reference)))
    for prefix, validity, crystals in (("sample", judged, valid), ("real", real, valid_twins)):
        metrics |= _validity(prefix, validity) | _variety(prefix, crystals, train)
    metrics |= _distances("sample", valid, _chosen(reference, real.structural))
    half = np.arange(len(reference)) % 2 == 0
    rest = _chosen(reference, real.structural & ~half)
    metrics |= _distances("real", _chosen(reference, real.overall & half), rest)
    if reconstructions is not None:
        outputs = crystal_validity(reconstructions)
        metrics |= _reconstruction(reconstructions, reference, outputs, real)
    return CrystalReport(metrics)


def _check_sets(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    reconstructions: Sequence[Structure] | None,
) -> None:
    for name, structures in (("samples", samples), ("reference", reference)):
        if len(structures) == 0:
            raise ValueError(f"expected at least one crystal in {name}, got none")
    if reconstructions is not None:
        check_pairs(reconstructions, reference)


def _spaced(count: int, total: int) -> NDArray[np.bool_]:
    """Mark `count` of `total` (at most all), evenly spaced."""
    mask = np.zeros(total, dtype=bool)
    mask[np.linspace(0, total - 1, min(count, total)).round().astype(int)] = True
    return mask


def _validity(prefix: str, judged: CrystalValidity) -> Metrics:
    total = len(judged.faults)
    masks = {
        "structural_validity": judged.structural,
        "compositional_validity": judged.compositional,
        "validity": judged.overall,
        "structural_validity_adit": judged.structural & judged.in_angle_range,
        "validity_adit": judged.overall & judged.in_angle_range,
    }
    metrics: Metrics = {}
    for name, mask in masks.items():
        metrics |= _rate(f"{prefix}_{name}", Rate.of(int(mask.sum()), total))
    counts: Metrics = {f"{prefix}_faults_{name}": judged.faults.count(name) for name in FAULTS}
    return metrics | counts


def _variety(prefix: str, valid: Sequence[Structure], train: Sequence[Structure] | None) -> Metrics:
    unique = [valid[i] for i in unique_crystals(valid)]
    metrics: Metrics = {f"{prefix}_num_valid": len(valid), f"{prefix}_num_unique": len(unique)}
    metrics |= _rate(f"{prefix}_uniqueness", Rate.of(len(unique), len(valid)))
    if train is not None:
        novel = int(novel_crystals(unique, train).sum())
        metrics |= {f"{prefix}_num_novel": novel}
        metrics |= _rate(f"{prefix}_novelty", Rate.of(novel, len(unique)))
    return metrics


def _distances(prefix: str, found: Sequence[Structure], expected: Sequence[Structure]) -> Metrics:
    if not found or not expected:
        return {}
    return {
        f"{prefix}_{name}_wasserstein": wasserstein_distance(values(found), values(expected))
        for name, values in (("density", densities), ("num_elements", element_counts))
    }


def _reconstruction(
    outputs: Sequence[Structure],
    reference: Sequence[Structure],
    judged: CrystalValidity,
    real: CrystalValidity,
) -> Metrics:
    errors = reconstruction_scores(outputs, reference)
    match = match_scores(outputs, reference, judged.overall, real.overall)
    return (
        {"num_reconstructions": len(outputs), "num_left_out": errors.left_out}
        | _validity("reconstruction", judged)
        | _rate("match_rate", match.both_valid)
        | {"match_rate_ceiling": match.ceiling.value}
        | _mean("match_rms", match.both_valid_rms)
        | _rate("match_rate_output_valid", match.output_valid)
        | _mean("match_rms_output_valid", match.output_valid_rms)
        | _rate("atom_type_accuracy", errors.atom_types)
        | _rate("crystal_type_accuracy", errors.crystal_types)
        | _mean("lattice_length_mae", errors.length_error)
        | _mean("lattice_angle_mae", errors.angle_error)
        | _mean("fractional_rmsd", errors.fractional_rmsd)
    )


def _rate(name: str, rate: Rate) -> Metrics:
    return {name: rate.value, f"{name}_se": rate.standard_error}


def _mean(name: str, average: Average) -> Metrics:
    if average.count == 0:
        return {}
    return {name: average.value, f"{name}_se": average.standard_error}


def _chosen(structures: Sequence[Structure], mask: NDArray[np.bool_]) -> list[Structure]:
    return [structures[i] for i in np.flatnonzero(mask).tolist()]

"""All metrics of generated crystals, each beside its value for real ones.

A number says little without that of real crystals: a tenth of the crystals of MP-20 fails SMACT's
rule, and the match rate cannot exceed the fraction of references that pass.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.distribution import densities, element_counts
from openunite.evaluation.crystals.matching import match_scores
from openunite.evaluation.crystals.novelty import novel_crystals, unique_crystals
from openunite.evaluation.crystals.reconstruction import reconstruction_scores
from openunite.evaluation.crystals.validity import FAULTS, CrystalValidity, crystal_validity
from openunite.evaluation.measured import Column, Flat, Measured
from openunite.evaluation.rates import rate
from openunite.evaluation.report import Report, check_sets
from openunite.optional import optional


def crystal_report(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    *,
    train: Sequence[Structure] | None = None,
    reconstructions: Sequence[Structure] | None = None,
) -> Report:
    """Compare samples with held-out real crystals, `reference`; shows progress.

    - Columns "samples" and "real": structural, compositional and overall validity among all, as
      CDVAE counts; the same with `_adit`, only for cells with angles in ADiT's range; uniqueness
      among the valid; novelty among the unique, if there is `train`; the number with each of
      `FAULTS`. Both uniqueness and novelty depend on the size of a set, so those of real crystals
      are computed on as many as there are samples, evenly spaced in `reference`.
    - Wasserstein distances of density (g/cm^3) and of the number of elements between the valid
      samples and the reference; for real crystals, between every second one and the rest.
    - With `reconstructions`, one per reference crystal and in the same order: match rates and RMS
      as in `match_scores`, errors as in `reconstruction_scores`, over all but
      `num_left_out` pairs.

    Errors of uniqueness and novelty assume independent trials, so they are only rough. The mean of
    an empty set, such as the RMS without a match, is left out. Cells are used as given: reduce
    those of real crystals (`reduce_cells`), not those of a model. ValueError for an empty set or a
    molecule.
    """
    check_sets("crystal", samples, reference, reconstructions)
    found, real = crystal_validity(samples), crystal_validity(reference)
    counts: Flat = {"num_samples": len(samples), "num_reference": len(reference)}
    counts |= {} if train is None else {"num_train": len(train)}
    columns = _columns(samples, reference, found, real, train)
    if reconstructions is not None:
        counts["num_reconstructions"] = len(reconstructions)
        outputs = crystal_validity(reconstructions)
        columns["reconstructions"] = (
            _validity(outputs)
            | reconstruction_scores(reconstructions, reference)
            | match_scores(reconstructions, reference, outputs.overall, real.overall)
        )
    return Report("crystals", columns, counts)


def _columns(
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    found: CrystalValidity,
    real: CrystalValidity,
    train: Sequence[Structure] | None,
) -> dict[str, Column]:
    """The columns of samples and of real crystals."""
    valid = _chosen(samples, found.overall)
    valid_twins = _chosen(reference, real.overall & _spaced(len(samples), len(reference)))
    columns = {
        "samples": _validity(found) | _variety(valid, train),
        "real": _validity(real) | _variety(valid_twins, train),
    }
    half = np.arange(len(reference)) % 2 == 0
    first, rest = (_chosen(reference, x) for x in (real.overall & half, real.structural & ~half))
    columns["samples"] |= _distances(valid, _chosen(reference, real.structural))
    columns["real"] |= _distances(first, rest)
    return columns


def _spaced(count: int, total: int) -> NDArray[np.bool_]:
    """Mask (total,) of `count` evenly spaced positions, or of all if there are fewer."""
    mask = np.zeros(total, dtype=bool)
    mask[np.linspace(0, total - 1, min(count, total)).round().astype(int)] = True
    return mask


def _validity(found: CrystalValidity) -> Column:
    total = len(found.faults)
    masks = {
        "structural_validity": found.structural,
        "compositional_validity": found.compositional,
        "validity": found.overall,
        "structural_validity_adit": found.structural & found.in_angle_range,
        "validity_adit": found.overall & found.in_angle_range,
    }
    rates = {name: rate(int(mask.sum()), total) for name, mask in masks.items()}
    return rates | {f"faults_{name}": Measured(found.faults.count(name)) for name in FAULTS}


def _variety(valid: Sequence[Structure], train: Sequence[Structure] | None) -> Column:
    unique = [valid[i] for i in unique_crystals(valid)]
    column = {
        "num_valid": Measured(len(valid)),
        "num_unique": Measured(len(unique)),
        "uniqueness": rate(len(unique), len(valid)),
    }
    if train is not None:
        novel = int(novel_crystals(unique, train).sum())
        column["num_novel"] = Measured(novel)
        column["novelty"] = rate(novel, len(unique))
    return column


def _distances(found: Sequence[Structure], expected: Sequence[Structure]) -> Column:
    if not found or not expected:
        return {}
    distance = optional("scipy.stats", "crystals").wasserstein_distance
    return {
        f"{name}_wasserstein": Measured(float(distance(values(found), values(expected))))
        for name, values in (("density", densities), ("num_elements", element_counts))
    }


def _chosen(structures: Sequence[Structure], mask: NDArray[np.bool_]) -> list[Structure]:
    return [structures[i] for i in np.flatnonzero(mask).tolist()]

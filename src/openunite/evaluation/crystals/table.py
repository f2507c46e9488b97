"""The metrics of crystals: their names and formats in `metrics.json`, cards and reports."""

from openunite.evaluation.crystals.validity import FAULTS
from openunite.evaluation.measured import Columns, Flat, Metric, Vocabulary, flatten

_RATE = "{:.1%}"
_OF_SETS = (
    Metric("structural_validity", "structural validity", "higher", form=_RATE),
    Metric("compositional_validity", "compositional validity", "higher", form=_RATE),
    Metric("validity", "validity (both)", "higher", form=_RATE),
    Metric("structural_validity_adit", "structural, 50-130 deg (ADiT)", "higher", form=_RATE),
    Metric("validity_adit", "both, 50-130 degrees (ADiT)", "higher", form=_RATE),
    Metric("uniqueness", "uniqueness (of valid)", "higher", form=_RATE),
    Metric("novelty", "novelty (of unique)", "higher", form=_RATE),
    Metric("density_wasserstein", "Wasserstein, density (g/cm3)", "lower"),
    Metric("num_elements_wasserstein", "Wasserstein, elements", "lower"),
    Metric("num_valid", "valid", "higher"),
    Metric("num_unique", "unique", "higher"),
    Metric("num_novel", "novel", "higher"),
    *(Metric(f"faults_{fault}", f"  fault: {fault}", "lower") for fault in FAULTS),
)
_RECONSTRUCTION = (
    Metric("match_rate", "match rate, both valid", "higher", form=_RATE),
    Metric("match_rate_ceiling", "  at most (valid references)", "neither", form=_RATE),
    Metric("match_rms", "  RMS, no unit", "lower"),
    Metric("match_rate_output_valid", "match rate, output valid", "higher", form=_RATE),
    Metric("match_rms_output_valid", "  RMS, no unit", "lower"),
    Metric("atom_type_accuracy", "atom type accuracy", "higher", form=_RATE),
    Metric("crystal_type_accuracy", "crystals with all types right", "higher", form=_RATE),
    Metric("lattice_length_mae", "lattice lengths, MAE (A)", "lower"),
    Metric("lattice_angle_mae", "lattice angles, MAE (degrees)", "lower"),
    Metric("fractional_rmsd", "fractional coordinates, RMSD", "lower"),
    Metric("num_left_out", "  impossible, not in the errors", "lower"),
)
METRICS: tuple[Metric, ...] = (*_OF_SETS, *_RECONSTRUCTION)
_PREFIXES = {"samples": "sample_", "real": "real_", "reconstructions": "reconstruction_"}


def flat_metrics(columns: Columns) -> Flat:
    """Values under their names in metrics.json; metrics of pairs have no prefix."""
    return flatten(columns, _PREFIXES, [row.name for row in _RECONSTRUCTION])


CRYSTALS = Vocabulary(METRICS, flat_metrics)

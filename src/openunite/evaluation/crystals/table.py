"""The metrics of crystals, and a report of them as plain text."""

from openunite.evaluation.crystals.validity import FAULTS
from openunite.evaluation.measured import Columns, Flat, Measured, Metric, Vocabulary, flatten

_RATE = "{:.1%}"
_PAIRED = (
    Metric("structural_validity", "structural validity", "higher", form=_RATE),
    Metric("compositional_validity", "compositional validity", "higher", form=_RATE),
    Metric("validity", "validity (both)", "higher", form=_RATE),
    Metric("structural_validity_adit", "structural, 50-130 deg (ADiT)", "higher", form=_RATE),
    Metric("validity_adit", "both, 50-130 degrees (ADiT)", "higher", form=_RATE),
    Metric("uniqueness", "uniqueness (of valid)", "higher", form=_RATE),
    Metric("novelty", "novelty (of unique)", "higher", form=_RATE),
    Metric("density_wasserstein", "Wasserstein, density (g/cm3)", "lower"),
    Metric("num_elements_wasserstein", "Wasserstein, elements", "lower"),
)
_COUNTS = (
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
)
_LEFT_OUT = Metric("num_left_out", "  impossible, not in the errors", "lower")
METRICS: tuple[Metric, ...] = (*_PAIRED, *_COUNTS, *_RECONSTRUCTION, _LEFT_OUT)
_PREFIXES = {"samples": "sample_", "real": "real_", "reconstructions": "reconstruction_"}
_LABEL, _COLUMN = 32, 20


def flat_metrics(columns: Columns) -> Flat:
    """Values under their names in metrics.json; metrics of pairs have no prefix."""
    return flatten(columns, _PREFIXES, [row.name for row in (*_RECONSTRUCTION, _LEFT_OUT)])


def crystal_table(columns: Columns, counts: Flat) -> str:
    """Samples beside real crystals, then reconstructions; metrics without a value are left out."""
    samples, real = columns["samples"], columns["real"]
    lines = [_line("", f"{counts['num_samples']} samples", f"{counts['num_reference']} real")]
    for row in _PAIRED:
        cells = [_cell(column.get(row.name)) for column in (samples, real)]
        if any(cells):
            lines.append(_line(row.label, *cells))
    for row in _COUNTS:
        found = [column[row.name].value for column in (samples, real) if row.name in column]
        if any(found):
            lines.append(_line(row.label, *map(str, found)))
    if rebuilt := columns.get("reconstructions"):
        lines += ["", _line("", f"{counts['num_reconstructions']} reconstructions")]
        for row in _RECONSTRUCTION:
            if row.name in rebuilt:
                lines.append(_line(row.label, _cell(rebuilt[row.name])))
        if left_out := rebuilt["num_left_out"].value:
            lines.append(_line(_LEFT_OUT.label, str(left_out)))
    return "\n".join(lines)


def _cell(found: Measured | None) -> str:
    if found is None:
        return ""
    return f"{found.value:.4f}" + ("" if found.error is None else f" +- {found.error:.4f}")


def _line(label: str, *cells: str) -> str:
    return (label.ljust(_LABEL) + "".join(cell.rjust(_COLUMN) for cell in cells)).rstrip()


CRYSTALS = Vocabulary(METRICS, flat_metrics)

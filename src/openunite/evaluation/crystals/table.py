"""The flat metrics of a crystal report as plain text."""

from collections.abc import Mapping

from openunite.evaluation.crystals.validity import FAULTS

_PAIRS = (
    ("structural validity", "structural_validity"),
    ("compositional validity", "compositional_validity"),
    ("validity (both)", "validity"),
    ("structural, 50-130 deg (ADiT)", "structural_validity_adit"),
    ("both, 50-130 degrees (ADiT)", "validity_adit"),
    ("uniqueness (of valid)", "uniqueness"),
    ("novelty (of unique)", "novelty"),
    ("Wasserstein, density (g/cm3)", "density_wasserstein"),
    ("Wasserstein, elements", "num_elements_wasserstein"),
)
_COUNTS = (("valid", "num_valid"), ("unique", "num_unique"), ("novel", "num_novel"))
_RECONSTRUCTION = (
    ("match rate, both valid", "match_rate"),
    ("  at most (valid references)", "match_rate_ceiling"),
    ("  RMS, no unit", "match_rms"),
    ("match rate, output valid", "match_rate_output_valid"),
    ("  RMS, no unit", "match_rms_output_valid"),
    ("atom type accuracy", "atom_type_accuracy"),
    ("crystals with all types right", "crystal_type_accuracy"),
    ("lattice lengths, MAE (A)", "lattice_length_mae"),
    ("lattice angles, MAE (degrees)", "lattice_angle_mae"),
    ("fractional coordinates, RMSD", "fractional_rmsd"),
)
_LABEL, _COLUMN = 32, 20


def crystal_table(metrics: Mapping[str, float | int]) -> str:
    """Samples beside real crystals, then reconstructions; what is not in `metrics` is left out.

    Works on the metrics of a saved report too.
    """
    heads = (f"{metrics['num_samples']} samples", f"{metrics['num_reference']} real")
    lines = [_line("", *heads)]
    for label, name in _PAIRS:
        cells = [_cell(metrics, f"{prefix}_{name}") for prefix in ("sample", "real")]
        if any(cells):
            lines.append(_line(label, *cells))
    counts = [(label, name) for label, name in _COUNTS if f"sample_{name}" in metrics]
    counts += [(f"  fault: {fault}", f"faults_{fault}") for fault in FAULTS]
    for label, name in counts:
        values = [metrics[f"{prefix}_{name}"] for prefix in ("sample", "real")]
        if any(values):
            lines.append(_line(label, *map(str, values)))
    if "num_reconstructions" in metrics:
        lines += ["", _line("", f"{metrics['num_reconstructions']} reconstructions")]
        found = [(label, _cell(metrics, name)) for label, name in _RECONSTRUCTION]
        lines += [_line(label, cell) for label, cell in found if cell]
        if left_out := metrics.get("num_left_out"):
            lines.append(_line("  impossible, not in the errors", str(left_out)))
    return "\n".join(lines)


def _cell(metrics: Mapping[str, float | int], name: str) -> str:
    if name not in metrics:
        return ""
    error = metrics.get(f"{name}_se")
    return f"{metrics[name]:.4f}" + ("" if error is None else f" +- {error:.4f}")


def _line(label: str, *cells: str) -> str:
    return (label.ljust(_LABEL) + "".join(cell.rjust(_COLUMN) for cell in cells)).rstrip()

"""Metrics and protocol cards as blocks of a report; known metrics are named in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from openunite.reporting.page import UNDEFINED, Card, Table, Values, shown
from openunite.training.config import flatten

# Words for the most common metrics; others keep their names.
_WORDS = {
    "recon_psnr_db": "reconstruction PSNR (dB), higher is better",
    "recon_l1": "reconstruction error (L1 of pixels in 0 to 1), lower is better",
    "fd_samples": "Frechet distance of samples, no guidance; lower is better",
    "fd_samples_guided": "Frechet distance of guided samples",
    "fd_recon": "Frechet distance of reconstructions",
    "fd_blur": "yardstick: Frechet distance of slightly blurred real images",
    "fd_real": "yardstick: Frechet distance of other real images",
    "seams_samples": "seams of samples, no guidance: steps across patch borders over those inside",
    "seams_samples_guided": "seams of guided samples; 1 is none, as in real images",
    "seams_recon": "seams of reconstructions",
    "seams_real": "yardstick: seams of other real images",
    "alpha_samples": "partly clear pixels of samples, over those of real images",
    "alpha_samples_guided": "partly clear pixels of guided samples",
    "alpha_recon": "partly clear pixels of reconstructions",
    "sample_accuracy": "samples recognized as their class, no guidance",
    "sample_accuracy_guided": "guided samples recognized as their class",
    "classifier_test_accuracy": "yardstick: real images recognized as their class",
    "identity_rmsd": "reconstruction RMSD (angstrom), atoms in order",
    "molecule_type_accuracy": "reconstructions with all elements right",
    "atom_type_accuracy": "atoms with the right element",
    "match_rate": "reconstructions that match their crystal",
    "match_rate_ceiling": "yardstick: the highest possible match rate",
}
# The first of these that a run has become tiles: label, format, and the metrics to compare with.
_RECOGNIZED = {"real images": "classifier_test_accuracy"}
_DISTANCES = {"real": "fd_real", "blurred": "fd_blur"}
_TILES: dict[str, tuple[str, str, dict[str, str]]] = {
    "recon_psnr_db": ("reconstruction PSNR", "{:.1f} dB", {}),
    "sample_accuracy_guided": ("guided samples recognized", "{:.1%}", _RECOGNIZED),
    "sample_accuracy": ("unguided samples recognized", "{:.1%}", _RECOGNIZED),
    "fd_samples_guided": ("Frechet distance, guided", "{:.2f}", _DISTANCES),
    "fd_samples": ("Frechet distance, unguided", "{:.2f}", _DISTANCES),
    "molecule_type_accuracy": ("reconstructed with all elements", "{:.1%}", {}),
    "identity_rmsd": ("reconstruction RMSD", "{:.3f} \u00c5", {}),
    "match_rate": ("reconstructions that match", "{:.1%}", {"at most": "match_rate_ceiling"}),
    "sample_validity": ("valid samples", "{:.1%}", {"real": "real_validity"}),
    "sample_atom_stability": ("stable atoms", "{:.1%}", {"real": "real_atom_stability"}),
    "sample_uniqueness": ("unique among valid", "{:.1%}", {"real": "real_uniqueness"}),
}
_MAX_TILES = 6
_COLUMNS = {
    "samples": ("sample_",),
    "real": ("real_",),
    "reconstructions": ("recon_", "reconstruction_"),
}


def headlines(metrics: Values) -> list[tuple[str, str, str]]:
    """The first numbers to look at: label, number, and a note on what real data reach."""
    tiles = []
    for name, (label, form, yardsticks) in _TILES.items():
        if _is_number(metrics.get(name)):
            known = {word: metrics.get(key) for word, key in yardsticks.items()}
            notes = [f"{word} {form.format(x)}" for word, x in known.items() if _is_number(x)]
            tiles.append((label, form.format(metrics[name]), ", ".join(notes)))
    return tiles[:_MAX_TILES]


def metric_tables(metrics: Values) -> list[Table]:
    """Metrics of samples beside those of real data where both exist; then all others."""
    rest = {name for name in metrics if not name.endswith(("_se", "_of"))}
    rows = []
    for stem in [name.removeprefix("sample_") for name in metrics if name.startswith("sample_")]:
        if {f"sample_{stem}", f"real_{stem}"} <= rest:
            names = [[f"{lead}{stem}" for lead in leads] for leads in _COLUMNS.values()]
            rest.difference_update(*names)
            rows.append([stem.replace("_", " "), *(_first(metrics, column) for column in names)])
    width = 4 if any(row[3] != "" for row in rows) else 3  # some runs have no reconstructions
    label = "Samples beside real, held-out ones, with standard errors"
    beside = Table(label, [row[:width] for row in rows], ("", *_COLUMNS)[:width])
    others = [
        (_WORDS.get(name, name.removeprefix("num_").replace("_", " ")), _first(metrics, [name]))
        for name in metrics
        if name in rest
    ]
    return [beside, Table("All other metrics" if rows else "All metrics", others)]


def card_of(title: str, values: Values) -> Card:
    """Any JSON object: warnings, tables of numbers side by side, then everything else."""
    warnings: list[str] = []
    numbers, plain, rest = list[Table](), [], list[Table]()
    for key, value in values.items():
        label = f"{title}: {key}"
        if key == "warnings" and isinstance(value, list):
            warnings = [str(line) for line in value]
        elif isinstance(value, dict) and value and all(map(_is_column, value.values())):
            names = dict.fromkeys(name for column in value.values() for name in column)
            rows = [(name, *(column.get(name, "") for column in value.values())) for name in names]
            numbers.append(Table(label, rows, ("", *value)))
        elif isinstance(value, list) and value and all(map(_is_column, value)):
            names = value[0]
            numbers.append(
                Table(label, [[row.get(x, "") for x in names] for row in value], [*names])
            )
        elif isinstance(value, dict):
            rest.append(Table(label, list(flatten(value).items())))
        else:
            plain.append((key, value))
    return Card(warnings, [*numbers, Table(title, plain), *rest])


def by_reason(missing: Mapping[str, str]) -> dict[str, list[str]]:
    """Titles grouped by the reason why they are missing."""
    found: dict[str, list[str]] = {}
    for title, reason in missing.items():
        found.setdefault(reason, []).append(title)
    return found


def defined(value: Any) -> Any:
    """The value; "undefined" for null, which stands in JSON for a number that is not finite."""
    return UNDEFINED if value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_column(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_is_number, value.values()))


def _first(metrics: Values, names: Sequence[str]) -> Any:
    """The first of the metrics that exists, with its standard error if there is one, or \"\"."""
    for name in names:
        if name in metrics:
            value, error = metrics[name], metrics.get(f"{name}_se")
            return f"{shown(value)} \u00b1 {error:.2g}" if error else defined(value)
    return ""

"""Metrics and protocol cards as tables of a report, in words where the words are known."""

from collections.abc import Iterator, Mapping
from typing import Any

from openunite.report.page import UNDEFINED, paragraph, shown, table

Values = Mapping[str, Any]

# What the commonest metrics are; others keep their names.
_WORDS = {
    "recon_psnr_db": "reconstruction PSNR (dB), higher is better",
    "recon_l1": "reconstruction error (L1 of pixels in 0 to 1), lower is better",
    "fd_samples": "Frechet distance of samples, no guidance; lower is better",
    "fd_samples_guided": "Frechet distance of guided samples",
    "fd_recon": "Frechet distance of reconstructions",
    "fd_blur": "yardstick: Frechet distance of slightly blurred real images",
    "fd_real": "yardstick: Frechet distance of other real images",
    "sample_accuracy": "samples recognized as their class, no guidance",
    "sample_accuracy_guided": "guided samples recognized as their class",
    "classifier_test_accuracy": "yardstick: real images recognized as their class",
    "identity_rmsd": "reconstruction RMSD (angstrom), atoms in order",
    "molecule_type_accuracy": "reconstructions with all elements right",
    "atom_type_accuracy": "atoms with the right element",
    "match_rate": "reconstructions that match their crystal",
    "match_rate_ceiling": "yardstick: the most that match rate can be",
}
# The first of these that a run has become tiles: words, how to print it, and its yardsticks.
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
_MOST_TILES = 6
_COLUMNS = {
    "sample_": "samples",
    "real_": "real",
    "recon_": "reconstructions",
    "reconstruction_": "reconstructions",
}


def headlines(metrics: Values) -> dict[str, tuple[str, str]]:
    """The first numbers to look at, each with what real data get."""
    found = {}
    for name, (label, form, yardsticks) in _TILES.items():
        if not isinstance(metrics.get(name), int | float):
            continue
        known = {word: metrics[key] for word, key in yardsticks.items() if key in metrics}
        note = ", ".join(f"{word} {form.format(value)}" for word, value in known.items())
        found[label] = (form.format(metrics[name]), note)
    return dict(list(found.items())[:_MOST_TILES])


def metric_tables(metrics: Values) -> str:
    """Metrics of samples beside those of real data, where both are; then all others."""
    main = {name for name in metrics if not name.endswith(("_se", "_of"))}
    stems: dict[str, dict[str, str]] = {}
    for name in metrics:
        prefix = next((p for p in _COLUMNS if name.startswith(p) and name in main), None)
        if prefix is not None:
            stems.setdefault(name.removeprefix(prefix), {})[_COLUMNS[prefix]] = name
    paired = {stem: names for stem, names in stems.items() if {"samples", "real"} <= set(names)}
    found = {column for names in paired.values() for column in names}
    columns = [column for column in dict.fromkeys(_COLUMNS.values()) if column in found]
    beside = [
        (
            stem.replace("_", " "),
            *(_with_error(metrics, names.get(column, "")) for column in columns),
        )
        for stem, names in paired.items()
    ]
    used = {name for names in paired.values() for name in names.values()}
    rest = [
        (_WORDS.get(name, name.removeprefix("num_").replace("_", " ")), _with_error(metrics, name))
        for name in metrics
        if name in main - used
    ]
    title = "Samples beside real, held-out ones, with standard errors"
    return (
        table(("", *columns), beside, title)
        + table(("", ""), rest, label="Metrics")
        + "".join(paragraph(line, "soft") for line in _explained(metrics))
    )


def _explained(metrics: Values) -> Iterator[str]:
    """What the names of the metrics leave open."""
    if any(name.startswith("fd_") for name in metrics):
        yield (
            "Frechet distances compare features of images (the penultimate layer of the packaged "
            "classifier of Fashion-MNIST, which also says which samples are recognized) with those "
            "of the held-out test images; they are not FID, which takes features of InceptionV3, "
            "and compare with each other alone."
        )
    if any(name.endswith("_guided") for name in metrics):
        yield (
            "Unguided samples are what the network draws for a class; guided ones start from the "
            f"same noise and are pushed towards the class (guidance scale "
            f"{shown(metrics.get('guidance_scale'))}; 1 is none): as a rule truer to it and less "
            "varied."
        )


def card_tables(title: str, card: Values) -> str:
    """Any JSON object: warnings, tables of numbers side by side, then everything else."""
    warnings = "".join(paragraph(line, "warning") for line in card.get("warnings", ()))
    numbers, plain, rest = "", [], ""
    for key, value in card.items():
        if key == "warnings":
            continue
        name = f"{title}: {key}"
        if isinstance(value, dict) and value and all(map(_is_column, value.values())):
            rows = dict.fromkeys(row for column in value.values() for row in column)
            cells = [(row, *(column.get(row, "") for column in value.values())) for row in rows]
            numbers += table(("", *value), cells, name)
        elif isinstance(value, list) and value and all(map(_is_column, value)):
            numbers += table(tuple(value[0]), [tuple(row.values()) for row in value], name)
        elif isinstance(value, dict):
            rest += table(("", ""), list(_flat(value)), name)
        else:
            plain.append((key, value))
    return warnings + numbers + table(("", ""), plain, title) + rest


def by_reason(missing: Mapping[str, str]) -> dict[str, list[str]]:
    """What is missing for the same reason, together."""
    found: dict[str, list[str]] = {}
    for title, reason in missing.items():
        found.setdefault(reason, []).append(title)
    return found


def measured(value: Any) -> Any:
    """A number, or what to show of one that could not be taken, null in JSON."""
    return UNDEFINED if value is None else value


def _is_column(value: Any) -> bool:
    """A mapping of names to numbers."""
    return isinstance(value, dict) and all(isinstance(x, int | float) for x in value.values())


def _flat(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _with_error(metrics: Values, name: str) -> Any:
    """The value, with its standard error where there is one."""
    if name not in metrics:
        return ""
    error = metrics.get(f"{name}_se")
    value = measured(metrics[name])
    return value if not error else f"{shown(value)} \u00b1 {error:.2g}"

"""Metrics and protocol cards as tables of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.measured import Measured, vocabulary
from openunite.report.page import UNDEFINED, paragraph, shown, table

Values = Mapping[str, Any]

_RECOGNIZED = {"real images": ("reference", "class_accuracy")}
_CEILING = {"at most": ("reconstructions", "match_rate_ceiling")}
_DISTANCES = {"real": ("real images", "fd"), "blurred": ("blurred images", "fd")}
# The first of these that a run has become tiles: column, metric, words, and yardsticks in words.
_TILES: tuple[tuple[str, str, str, dict[str, tuple[str, str]]], ...] = (
    ("reconstructions", "psnr_db", "reconstruction PSNR", {}),
    ("guided", "class_accuracy", "guided samples recognized", _RECOGNIZED),
    ("unguided", "class_accuracy", "unguided samples recognized", _RECOGNIZED),
    ("guided", "fd", "Frechet distance, guided", _DISTANCES),
    ("unguided", "fd", "Frechet distance, unguided", _DISTANCES),
    ("reconstructions", "molecule_type_accuracy", "reconstructed with all elements", {}),
    ("reconstructions", "identity_rmsd", "reconstruction RMSD", {}),
    ("reconstructions", "match_rate", "reconstructions that match", _CEILING),
    ("samples", "validity", "valid samples", {"real": ("real", "validity")}),
    ("samples", "atom_stability", "stable atoms", {"real": ("real", "atom_stability")}),
    ("samples", "uniqueness", "unique among valid", {"real": ("real", "uniqueness")}),
)
_MAX_TILES = 6


def headlines(card: ProtocolCard | None) -> dict[str, tuple[str, str]]:
    """The first numbers to look at, each with what real data get."""
    found: dict[str, tuple[str, str]] = {}
    for column, name, label, yardsticks in _TILES if card else ():
        assert card is not None
        value, form = _find(card, column, name), vocabulary(card.kind)[name].form
        if value is None:
            continue
        known = {words: _find(card, *place) for words, place in yardsticks.items()}
        notes = [
            f"{words} {form.format(real)}" for words, real in known.items() if real is not None
        ]
        found[label] = (form.format(value), ", ".join(notes))
    return dict(list(found.items())[:_MAX_TILES])


def metric_tables(card: ProtocolCard | None, metrics: Values) -> str:
    """The metrics of a card and what they mean, then those of metrics.json that no card has."""
    flat = vocabulary(card.kind).flat(card.metrics) if card else {}
    rest = [
        (name.removeprefix("num_").replace("_", " "), measured(value))
        for name, value in metrics.items()
        if name not in flat
    ]
    text = "" if card is None else _columns(card, "Metrics with their errors")
    notes = _explained(card) if card else ()
    return text + "".join(paragraph(line, "soft") for line in notes) + table(("", ""), rest, "Run")


def protocol_tables(title: str, card: ProtocolCard) -> str:
    """Warnings, metrics, and what decides them."""
    text = "".join(paragraph(line, "warning") for line in card.warnings)
    rows = [
        (f"{section}.{name}", value)
        for section, values in card.sections().items()
        for name, value in values.items()
    ]
    return text + _columns(card, f"{title}: metrics") + table(("", ""), rows, f"{title}: protocol")


def _columns(card: ProtocolCard, title: str) -> str:
    rows = []
    for name in _names(card):
        better = vocabulary(card.kind)[name].better
        hint = "" if better == "neither" else f" ({better} is better)"
        cells = (_with_error(column.get(name)) for column in card.metrics.values())
        rows.append((card.label(name) + hint, *cells))
    return table(("", *card.metrics), rows, title)


def _names(card: ProtocolCard) -> list[str]:
    return list(dict.fromkeys(name for column in card.metrics.values() for name in column))


def _find(card: ProtocolCard, column: str, name: str) -> float | None:
    found = card.metrics.get(column, {}).get(name)
    return None if found is None else found.value


def _with_error(found: Measured | None) -> Any:
    if found is None:
        return ""
    return f"{shown(found.value)} \u00b1 {found.error:.2g}" if found.error else found.value


def _explained(card: ProtocolCard) -> Iterator[str]:
    """What the labels of the metrics leave open."""
    for name in _names(card):
        row = vocabulary(card.kind)[name]
        if row.words:
            kind = "" if row.error == "standard error" else f" (\u00b1 {row.error})"
            yield f"{card.label(name)}: {row.words[0].lower() + row.words[1:]}{kind}."
    if card.extractor is not None and card.extractor.label != "FID":
        yield (
            f"{card.extractor.label} uses the features of {card.extractor.name}. It is not FID, "
            "which uses InceptionV3; compare it only with distances in the same features."
        )
    if "guided" in card.metrics and card.guidance.scale is not None:
        yield (
            "Unguided samples are what the network draws for a class. Guided samples start from "
            f"the same noise and are pushed towards the class (guidance scale "
            f"{shown(card.guidance.scale)}; 1 is none), which makes them truer to it and usually "
            "less varied."
        )


def card_tables(title: str, card: Values) -> str:
    """Any other JSON object: warnings, numbers side by side, then everything else."""
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
    """Titles of missing parts, grouped by reason."""
    found: dict[str, list[str]] = {}
    for title, reason in missing.items():
        found.setdefault(reason, []).append(title)
    return found


def measured(value: Any) -> Any:
    """A number, or the word for one that is undefined (null in JSON)."""
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

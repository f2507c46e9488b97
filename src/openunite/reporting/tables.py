"""Metrics and protocol cards as blocks of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.measured import Measured, vocabulary
from openunite.reporting.page import UNDEFINED, Card, Table, Values, shown
from openunite.training.config import flatten

# The first entries that a run has become tiles: column, metric, label, reference numbers.
_RECOGNIZED = {"real images": ("reference", "class_accuracy")}
_DISTANCES = {"real": ("real images", "fd"), "blurred": ("blurred images", "fd")}
_CEILING = {"at most": ("reconstructions", "match_rate_ceiling")}
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


def headlines(card: ProtocolCard) -> list[tuple[str, str, str]]:
    """The most important numbers as (label, number, note); the note gives reference numbers."""
    tiles = []
    for column, name, label, yardsticks in _TILES:
        if (found := _find(card, column, name)) is not None:
            form = vocabulary(card.kind)[name].form
            known = {word: _find(card, *place) for word, place in yardsticks.items()}
            notes = [f"{word} {form.format(x)}" for word, x in known.items() if x is not None]
            tiles.append((label, form.format(found), ", ".join(notes)))
    return tiles[:_MAX_TILES]


def metric_table(card: ProtocolCard, label: str) -> Table:
    """All metrics of a card with their errors; one column per evaluated set."""
    rows = []
    for name in _names(card):
        better = vocabulary(card.kind)[name].better
        hint = "" if better == "neither" else f", {better} is better"
        cells = (_with_error(column.get(name)) for column in card.metrics.values())
        rows.append((card.label(name) + hint, *cells))
    return Table(label, rows, ("", *card.metrics))


def other_metrics(card: ProtocolCard | None, metrics: Values) -> Table:
    """The entries of metrics.json that the card does not have."""
    flat = {} if card is None else vocabulary(card.kind).flat(card.metrics)
    rest = [
        (name.removeprefix("num_").replace("_", " "), defined(value))
        for name, value in metrics.items()
        if name not in flat
    ]
    return Table("All metrics" if card is None else "All other metrics", rest)


def notes(card: ProtocolCard) -> Iterator[str]:
    """Yield sentences that explain the metrics of a card."""
    for name in _names(card):
        row = vocabulary(card.kind)[name]
        if row.words:
            error = "" if row.error == "standard error" else f" (\u00b1 {row.error})"
            yield f"{card.label(name)}: {row.words[0].lower()}{row.words[1:]}{error}."
    if card.extractor is not None and card.extractor.label != "FID":
        yield (
            f"{card.extractor.label} uses the features of {card.extractor.name}. It is not FID, "
            "which uses features of InceptionV3; compare it only with distances of the same name."
        )
    scale = None if card.guidance is None else card.guidance.scale
    if "guided" in card.metrics and scale is not None:
        yield (
            "Unguided samples are what the network draws for a class. Guided samples start from "
            "the same noise and are pushed towards the class (guidance scale "
            f"{shown(scale)}; 1 is none), which usually makes them truer to it and "
            "less varied."
        )


def protocol_of(title: str, card: ProtocolCard) -> Card:
    """A protocol card as warnings, a table of metrics and a table of its settings."""
    rows = [
        (f"{section}.{name}", value)
        for section, values in card.sections().items()
        for name, value in values.items()
    ]
    return Card(card.warnings, [metric_table(card, f"{title}: metrics"), Table(title, rows)])


def _names(card: ProtocolCard) -> list[str]:
    return list(dict.fromkeys(name for column in card.metrics.values() for name in column))


def _find(card: ProtocolCard, column: str, name: str) -> float | None:
    found = card.metrics.get(column, {}).get(name)
    return None if found is None else found.value


def _with_error(found: Measured | None) -> Any:
    if found is None:
        return ""
    return f"{shown(found.value)} \u00b1 {found.error:.2g}" if found.error else found.value


def card_of(title: str, values: Values) -> Card:
    """Any other JSON object: its warnings, tables of its numbers, then everything else."""
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
    """Group titles by the reason why they are missing."""
    found: dict[str, list[str]] = {}
    for title, reason in missing.items():
        found.setdefault(reason, []).append(title)
    return found


def defined(value: Any) -> Any:
    """The value, or "undefined" for None, which replaces NaN and infinity in JSON files."""
    return UNDEFINED if value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_column(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_is_number, value.values()))

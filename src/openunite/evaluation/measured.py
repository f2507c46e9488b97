"""A measured number and the row that explains it, for cards, reports and studies.

Metrics of one evaluation form columns, one for each set ("guided", "real images", "samples"): the
same name in two columns is the same metric of two sets.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from openunite.registry import Registry

Flat = dict[str, float | int]


@dataclass(frozen=True)
class Measured:
    """A value, its error (the metric says which kind) and the number of items that it covers."""

    value: float
    error: float | None = None
    total: int | None = None


@dataclass(frozen=True)
class Metric:
    """One row of a table of metrics.

    `label` is its name in tables; the extractor fills in {distance} and {score}. `words` explain
    the metric to somebody who sees it for the first time, `form` formats a value in a sentence, and
    `error` names the kind of error that values have.
    """

    name: str
    label: str
    better: Literal["higher", "lower", "neither"]
    words: str = ""
    form: str = "{:.4g}"
    error: str = "standard error"


Column = dict[str, Measured]
Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Vocabulary:
    """The metrics of one kind of data, and their names in metrics.json."""

    metrics: tuple[Metric, ...] = ()
    flat: Callable[[Columns], Flat] = lambda _: {}

    def __getitem__(self, name: str) -> Metric:
        """The row of a metric; for an unknown name, a row that only repeats it."""
        known = {row.name: row for row in self.metrics}
        return known.get(name) or Metric(name, name.replace("_", " "), "neither")


VOCABULARIES = Registry(
    "openunite.metrics",
    {
        "images": "openunite.evaluation.images.table:IMAGES",
        "molecules": "openunite.evaluation.molecules.table:MOLECULES",
        "crystals": "openunite.evaluation.crystals.table:CRYSTALS",
    },
)


def vocabulary(kind: str) -> Vocabulary:
    """The vocabulary of "images", "molecules", "crystals" or another package's kind.

    It includes those whose names continue the kind ("images.sharpness"). It is empty for an unknown
    kind: the package may not be installed where a card is read.
    """
    names = [x for x in VOCABULARIES.names() if x == kind or x.startswith(f"{kind}.")]
    parts: list[Vocabulary] = [VOCABULARIES.get(name) for name in names]
    rows = tuple(row for part in parts for row in part.metrics)
    return Vocabulary(rows, parts[0].flat) if parts else Vocabulary()


def text_table(columns: Columns, label: Callable[[str], str]) -> list[str]:
    """The lines of a table: a column for each set, a row for each metric, called `label(name)`."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [["", *columns]]
    for name in names:
        rows.append([label(name), *(_cell(column.get(name)) for column in columns.values())])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for first, *cells in rows:
        sized = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *sized]).rstrip())
    return lines


def _cell(found: Measured | None) -> str:
    if found is None:
        return ""
    error = "" if found.error is None else f" +- {found.error:.2g}"
    return f"{found.value:.5g}{error}" + ("" if found.total is None else f" of {found.total}")


def flatten(columns: Columns, prefixes: Mapping[str, str], plain: Collection[str] = ()) -> Flat:
    """Columns as one dictionary for metrics.json; errors end in `_se`, totals in `_of`.

    A name starts with the prefix of its column, except for the metrics in `plain`.
    """
    flat: Flat = {}
    for column, metrics in columns.items():
        for metric, found in metrics.items():
            name = metric if metric in plain else prefixes[column] + metric
            flat[name] = found.value
            if found.error is not None:
                flat[f"{name}_se"] = found.error
            if found.total is not None:
                flat[f"{name}_of"] = found.total
    return flat

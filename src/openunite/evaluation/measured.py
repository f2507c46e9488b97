"""A measured number and the row that explains it, for cards, reports and studies.

Metrics of one evaluation form columns, one for each set ("guided", "real images", "samples"): the
same name in two columns is the same metric of two sets.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from openunite.registry import Registry

Flat = dict[str, float | int]


@dataclass(frozen=True)
class Measured:
    """A value, its error (the metric says which kind) and the number of things it is taken over."""

    value: float
    error: float | None = None
    total: int | None = None


@dataclass(frozen=True)
class Metric:
    """One row of a table of metrics.

    `label` stands in tables; where it has a {distance} or {score}, the extractor decides its name.
    `words` explain the metric to somebody who sees it for the first time, `form` prints a value in
    a sentence, `error` says what the error of a value is.
    """

    name: str
    label: str
    better: Literal["higher", "lower", "neither"]
    words: str = ""
    form: str = "{:.4g}"
    error: str = "standard error"


Column = Mapping[str, Measured]
Columns = Mapping[str, Column]

TABLES = Registry(
    "openunite.metrics",
    {
        "images": "openunite.evaluation.images.table:METRICS",
        "molecules": "openunite.evaluation.molecules.table:METRICS",
        "crystals": "openunite.evaluation.crystals.table:METRICS",
    },
)


def metrics_of(kind: str) -> dict[str, Metric]:
    """The rows for "images", "molecules", "crystals" or another package's kind, by name.

    Empty for an unknown kind: its package may not be installed where a card is read.
    """
    if kind not in TABLES.names():
        return {}
    return {row.name: row for row in TABLES.get(kind)}


def flatten(columns: Columns, prefixes: Mapping[str, str], plain: Collection[str] = ()) -> Flat:
    """All values under one name each, as metrics.json has them; errors as `_se`, totals as `_of`.

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

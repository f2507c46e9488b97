"""Conditions of a run: what was asked for, the columns behind it, the settings of each kind."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from typing import Any

from openunite.analysis.condition_effect import effects
from openunite.conditions.base import CONDITIONS, fit, get_kind, guess, is_missing, read
from openunite.data.conditions import ConditionedDataset, table
from openunite.progress import say
from openunite.settings import expected, missing_fields
from openunite.task import Task
from openunite.training.config import RunConfig, for_model
from openunite.training.loader import TrainingData

_FORM = re.compile(r"(\w+)(?:=([\w-]+))?(?::(.+))?")


def read_condition(text: str) -> tuple[str, dict[str, Any]]:
    """ "gap=number:band_gap" -> its name and what was said of it. ValueError for another form.

    Kinds that build on a file or a model name it first: "caption=static:PATH:COLUMN".
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected NAME, NAME=KIND or NAME=KIND:COLUMN, got {text!r:.80}")
    given = {"kind": match[2], "column": match[3]}
    if (match[2] or "") in CONDITIONS.names() and (source := get_kind(match[2]).source):
        where, _, column = (match[3] or "").partition(":")
        given |= {source: where or None, "column": column or None}
    return match[1], {key: value for key, value in given.items() if value is not None}


class Columns:
    """The columns of data that conditions ask for; each is computed once, when it is needed."""

    def __init__(self, task: Task, data: TrainingData) -> None:
        self._things, self._make = task.things, cache(lambda: task.columns(data))
        self._values = cache(lambda name: self._make()[name]())

    def of(self, name: str, plain: Mapping[str, Any]) -> list[Any]:
        """The values of a condition. ValueError with the nearest name where there is no column."""
        wanted, columns = str(plain.get("column", name)), list(self._make())
        if wanted not in columns:
            known = (
                expected(wanted, columns) if columns else f"these {self._things} have no columns"
            )
            raise ValueError(f"condition {name}: no column {wanted!r:.60}, {known}")
        return self._values(wanted)

    def forget(self) -> None:
        """Free the memory that the columns take; they are computed again if they are needed."""
        self._make.cache_clear()
        self._values.cache_clear()

    def listed(self) -> dict[str, dict[str, Any]]:
        """The kind of each column ("" if none suits), how many values it has, and one of them."""
        return {name: _about(name, self._values(name)) for name in self._make()}


def resolve_conditions(config: RunConfig, columns: Columns) -> RunConfig:
    """The settings with kinds and their settings, as far as they were left to the data.

    ValueError for a column that does not exist or teaches nothing.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, plain in config.conditions.items():
        given = {key: value for key, value in plain.items() if key != "column"}
        kind, column = given.get("kind"), None
        if kind is None or missing_fields(get_kind(kind).Settings, given):
            column = columns.of(name, plain)
            kind = kind or guess(name, column)
            source = get_kind(kind).source
            fitted = fit(name, kind, column, str(given.get(source, "")))
            given = fitted | {key: value for key, value in given.items() if key != source}
        read(name, given)
        found[name] = {"kind": kind, "column": plain.get("column", name)} | given
    return replace(config, conditions=found)


def with_conditions(data: TrainingData, config: RunConfig, columns: Columns) -> TrainingData:
    """The data with the conditions of a resolved run in their batches."""
    if not config.conditions:
        return data
    given = {}
    for name, plain in for_model(config.conditions).items():
        kind, settings = read(name, plain)
        column = columns.of(name, config.conditions[name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # settings of another run may be narrower
            rows = [None if is_missing(v) else kind.parse(v, settings) for v in column]
        given[name] = table(rows)
    return ConditionedDataset(data, given)


def unsettled(config: RunConfig) -> list[str]:
    """The conditions whose settings are only known from the data."""
    return [
        name
        for name, plain in config.conditions.items()
        if "kind" not in plain or missing_fields(get_kind(plain["kind"]).Settings, plain)
    ]


def describe_conditions(config: RunConfig) -> list[str]:
    """A line for each condition: kind, column, what can be asked for."""
    lines, unknown = [], unsettled(config)
    for name, plain in config.conditions.items():
        if name in unknown:
            lines.append(f"condition {name}: its settings follow from the data")
            continue
        kind, settings = read(name, for_model({name: plain})[name])
        column = plain.get("column", name)
        source = "" if column == name else f" of column {column}"
        lines.append(f"condition {name}: {plain['kind']}{source}, {kind.describe(settings)}")
    return lines


def check_conditions(config: RunConfig, known: Mapping[str, Any], origin: str) -> None:
    """ValueError if the run and its origin, whose weights it takes, read a condition otherwise."""
    for name, plain in for_model(config.conditions).items():
        before = dict(known.get(name, plain))
        if changed := [key for key in plain if before.get(key) != plain[key]]:
            raise ValueError(
                f"condition {name} has another {', '.join(changed)} in {origin}, so its weights "
                "would be misread; copy the condition from the config.yaml there, or rename it here"
            )


def fingerprint_with(fingerprint: str, config: RunConfig, columns: Columns) -> str:
    """The fingerprint of the data of a run, which covers the columns of its conditions."""
    if not config.conditions:
        return fingerprint
    total = sha256(fingerprint.encode())
    for name, plain in config.conditions.items():
        total.update(repr((name, columns.of(name, plain))).encode())
    return total.hexdigest()


def describe_columns(listed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each column that `Columns` listed, as data.json holds it."""
    lines = []
    for name, about in listed.items():
        kind = about["kind"] or "of no kind that could be guessed"
        missing = f", {about['missing']} missing" if about["missing"] else ""
        example = f", such as {about['example']}" if about["example"] else ""
        lines.append(f"column {name}: {kind}, {about['known']} values{missing}{example}")
    return lines


def say_effects(encoder: Any, data: TrainingData) -> None:
    """Print what each condition does to the predictions, by a look at some training samples."""
    if not isinstance(data, ConditionedDataset):
        return
    count = min(64, len(data))
    batch = data.batch([i * len(data) // count for i in range(count)])
    batch = replace(batch, conditions={name: batch.conditions[name] for name in data.conditions})
    for effect in effects(encoder, batch, next(encoder.parameters()).device):
        say(str(effect))


def _about(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A column in a few words."""
    known = [value for value in values if not is_missing(value)]
    try:
        kind = guess(name, known)
    except ValueError:
        kind = ""
    counts = {"known": len(known), "missing": len(values) - len(known)}
    return {"kind": kind, **counts, "example": str(known[0])[:60] if known else ""}

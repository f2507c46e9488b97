"""What a user asks for beside classes: values of conditions, and scales of guidance by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openunite.batch import Conditions, Evidence, Given
from openunite.conditions.base import parse
from openunite.data.conditions import table
from openunite.settings import expected

Asked = Mapping[str, Any] | None  # condition -> one value, or a list with one for each sample


def conditions_of(
    known: Mapping[str, Mapping[str, Any]], asked: Mapping[str, Any], count: int
) -> Conditions:
    """The asked values of `count` samples, in the form of the model; `known` are its settings.

    None in a list is a sample of which nothing is asked. ValueError for a name or a value that the
    model does not know, and for a list of another length.
    """
    found: dict[str, Given] = {}
    check_lengths(asked, count)
    for name, value in asked.items():
        if name not in known:
            known_names = expected(name, known) if known else "this model has none"
            raise ValueError(f"unknown condition {name!r:.60}, {known_names}")
        values = value if isinstance(value, list) else [value]
        rows = [None if v is None else parse(name, known[name], v) for v in values]
        if any(row is not None for row in rows):
            found[name] = table(rows if isinstance(value, list) else rows * count)
    return found


def check_lengths(asked: Mapping[str, Any], count: int) -> None:
    """Raise ValueError if a list of values of a condition has another length than the samples."""
    for name, values in asked.items():
        if isinstance(values, list) and len(values) != count:
            raise ValueError(
                f"condition {name}: expected one value for all, or a list with one for each of "
                f"{count} samples, got {len(values)}; write a range or several names as a tuple"
            )


def part_of(asked: Mapping[str, Any], numbers: Sequence[int]) -> dict[str, Any]:
    """The conditions of the samples with these numbers; values outside a list hold for all."""
    return {
        name: [value[i] for i in numbers] if isinstance(value, list) else value
        for name, value in asked.items()
    }


def check_scales(scales: Mapping[str, float], evidence: Evidence) -> list[float]:
    """The scales, in order. ValueError for one of a condition that is not given."""
    for name, scale in scales.items():
        if name not in evidence.conditions:
            given = ", ".join(evidence.conditions) or "no condition"
            raise ValueError(
                f"guidance_scale names {name!r:.60}, but {given} is given; scale what is given"
            )
        number = isinstance(scale, int | float | np.number) and not isinstance(scale, bool)
        if not number or not abs(scale) <= 1e6:  # NaN is not
            raise ValueError(f"guidance_scale of {name} must be a number, got {scale!r:.60}")
    return list(map(float, scales.values()))

"""What the sampling settings of a pipeline can be."""

import sys
from collections.abc import Mapping
from typing import Any, get_args

from openunite.flow.solvers import Solver

_MOST_STEPS = 10**6


def check_settings(settings: Mapping[str, Any]) -> None:
    """ValueError names the first setting that no pipeline can have."""
    check_finite({n: settings[n] for n in ("time_shift", "eta", "temperature", "guidance_scale")})
    interval, steps = settings["guidance_interval"], settings["num_inference_steps"]
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        raise ValueError(f"guidance_interval must be two numbers, got {interval!r:.100}")
    check_finite({"guidance_interval": interval[0]} | {"guidance_interval's end": interval[1]})
    if settings["solver"] not in get_args(Solver):
        known = ", ".join(get_args(Solver))
        raise ValueError(f"solver must be one of {known}, got {settings['solver']!r:.100}")
    if type(steps) is not int or not 1 <= steps <= _MOST_STEPS:
        raise ValueError(
            f"num_inference_steps must be a number from 1 to {_MOST_STEPS}, got {steps!r:.100}"
        )
    names, sizes = settings["class_names"] or (), settings["size_histogram"] or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of names, got {names!r:.100}")
    if not isinstance(sizes, list | tuple) or not all(_is_counts(row) for row in sizes):
        raise ValueError(f"size_histogram must be counts of at least 0, got {sizes!r:.100}")


def _is_counts(row: Any) -> bool:
    """A count, or the counts of one class."""
    return all(type(n) is int and n >= 0 for n in (row if isinstance(row, list | tuple) else [row]))


def check_finite(settings: Mapping[str, Any]) -> None:
    """ValueError names the first setting that is no finite number."""
    for name, value in settings.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= sys.float_info.max:
            raise ValueError(f"{name} must be a finite number, got {value!r:.100}")

"""Scalars of a run: kept on the device, written in bulk to metrics.jsonl, shown in a bar.

A line is one optimizer step as JSON; a number that is not finite is null there.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import get_available_trackers
from torch import Tensor

from openunite.files import whole_file
from openunite.progress import bar, say
from openunite.training.device import wide

Row = dict[str, float]


class MetricsLog:
    """Collects one row per optimizer step and turns device scalars into numbers in bulk."""

    def __init__(
        self, path: Path | None, first_step: int, sinks: list[Callable[[Row], None]]
    ) -> None:
        """`path` is None on all processes but the main one: they keep rows, and write none."""
        self.path, self.sinks = path, sinks
        self._pending: list[dict[str, Any]] = []
        if path is not None:
            for complaint in _resume(path, first_step):
                say(f"warning: {complaint}", err=True)

    def add(self, row: dict[str, Any]) -> None:
        """`row` holds "step" and numbers or 0-dim tensors."""
        self._pending.append(row)

    def flush(self) -> list[Row]:
        """Write what was added since the last flush; returns it as numbers, NaN among them."""
        rows = _numbers(self._pending)
        self._pending = []
        if self.path is not None and rows:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, rows))
        for sink in self.sinks:
            for row in rows:
                sink(row)
        return rows


class ProgressBar:
    """step, samples/s, both losses, latent spread, time left."""

    def __init__(self, first_step: int, steps: int, *, shown: bool) -> None:
        self.bar = bar(
            total=steps, initial=first_step, unit="step", disable=not shown, dynamic_ncols=True
        )

    def advance(self, rows: list[Row]) -> None:
        """Show the newest row."""
        if not rows:
            return
        row = rows[-1]
        losses = (
            f"{short} {row[name]:.4f}  "
            for short, name in (("rec", "loss_reconstruction"), ("flow", "loss_flow"))
            if name in row  # one stage of two has one of them
        )
        self.bar.set_description_str(
            f"{''.join(losses)}spread {row['latent_spread']:.2f}  "
            f"{row['samples_per_second']:.0f} samples/s",
            refresh=False,
        )
        self.bar.update(int(row["step"]) - self.bar.n)

    def close(self) -> None:
        self.bar.close()


def check_trackers(names: Sequence[str]) -> list[str] | None:
    """Trackers as Accelerate takes them. ValueError for one that is unknown or not installed."""
    available = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in available:
            raise ValueError(
                f"tracker {name!r} cannot be used, expected one of {available}; install it "
                f"(pip install {name}) or leave it out"
            )
    return list(names) or None


def _numbers(rows: list[dict[str, Any]]) -> list[Row]:
    """One transfer for all tensors of all rows."""
    tensors = [v for row in rows for v in row.values() if isinstance(v, Tensor)]
    if not tensors:
        return rows
    values = iter(torch.stack([wide(t.detach()) for t in tensors]).tolist())
    return [
        {k: next(values) if isinstance(v, Tensor) else v for k, v in row.items()} for row in rows
    ]


def _line(row: Row) -> str:
    """JSON knows neither NaN nor infinity."""
    plain = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _resume(path: Path, first_step: int) -> list[str]:
    """Drop rows of steps that will be computed again after a resume, and what is no row.

    Returns a complaint if rows of steps that are not computed again are missing.
    """
    kept: dict[int, bytes] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        step = _step_of(line)
        if step is not None and 1 <= step <= first_step:
            kept[step] = line + b"\n"
    if path.exists():
        with whole_file(path) as file:
            file.writelines(kept[step] for step in sorted(kept))
    missing = [step for step in range(1, first_step + 1) if step not in kept]
    if not missing:
        return []
    return [
        f"{path} is damaged: the rows of {len(missing)} of {first_step} steps are missing "
        f"({spans(missing)}); the run goes on, its curves will lack them"
    ]


def _step_of(line: bytes) -> int | None:
    """The step of a row; None for a line that is none, such as half of one after a kill."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # of JSON or of UTF-8
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return step if type(step) is int else None


def spans(numbers: Iterable[int], most: int = 5) -> str:
    """Ascending numbers in words, such as "3, 5 to 9", at most so many parts."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    parts = [f"{a} to {b}" if b > a else str(a) for a, b in found[:most]]
    return ", ".join(parts + ["..."] * (len(found) > most))

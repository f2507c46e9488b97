"""The log of a run: scalars stay on the device until they are written in bulk to metrics.jsonl.

Each line is a JSON object for one optimizer step; numbers that are not finite become null.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import get_available_trackers
from torch import Tensor

from openunite.files import atomic_file
from openunite.progress import bar, say
from openunite.training.device import wide

Row = dict[str, float]


class MetricsLog:
    """Collects one row per optimizer step, and reads scalars from the device in bulk."""

    def __init__(
        self, path: Path | None, first_step: int, sinks: list[Callable[[Row], None]]
    ) -> None:
        """`path` is None on all processes but the main one; those write no file."""
        self.path, self.sinks = path, sinks
        self._pending: list[dict[str, Any]] = []
        if path is not None:
            for complaint in _resume(path, first_step):
                say(f"warning: {complaint}", err=True)

    def add(self, row: dict[str, Any]) -> None:
        """Add the row of a step: "step" and further names, with numbers or 0-dim tensors."""
        self._pending.append(row)

    def flush(self) -> list[Row]:
        """Write the rows added since the last flush, and return them as numbers (perhaps NaN)."""
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
    """A bar with step, samples/s, both losses, latent spread and remaining time."""

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
            if name in row  # a run of the two-stage baseline has only one of them
        )
        self.bar.set_description_str(
            f"{''.join(losses)}spread {row['latent_spread']:.2f}  "
            f"{row['samples_per_second']:.0f} samples/s",
            refresh=False,
        )
        self.bar.update(int(row["step"]) - self.bar.n)

    def resize(self, steps: int) -> None:
        """Show another number of steps as the end."""
        self.bar.total = steps

    def close(self) -> None:
        self.bar.close()


def check_trackers(names: Sequence[str]) -> list[str] | None:
    """The names as Accelerate expects them. Raises ValueError for a tracker it cannot use."""
    available = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in available:
            raise ValueError(
                f"tracker {name!r} cannot be used, expected one of {available}; install it "
                f"(pip install {name}) or leave it out"
            )
    return list(names) or None


def _numbers(rows: list[dict[str, Any]]) -> list[Row]:
    """The rows with tensors converted to numbers, by one transfer for all."""
    tensors = [v for row in rows for v in row.values() if isinstance(v, Tensor)]
    if not tensors:
        return rows
    values = iter(torch.stack([wide(t.detach()) for t in tensors]).tolist())
    return [
        {k: next(values) if isinstance(v, Tensor) else v for k, v in row.items()} for row in rows
    ]


def _line(row: Row) -> str:
    """A row as JSON; NaN and infinity, which JSON lacks, become null."""
    plain = {name: value if math.isfinite(value) else None for name, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _resume(path: Path, first_step: int) -> list[str]:
    """Drop rows after `first_step`, which will be computed again, and lines that are not rows.

    Returns a warning if rows up to `first_step` are missing.
    """
    kept: dict[int, bytes] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        row = _row_of(line)
        if row is not None and 1 <= row["step"] <= first_step:
            kept[row["step"]] = line + b"\n"
    if path.exists():
        with atomic_file(path) as file:
            file.writelines(kept[step] for step in sorted(kept))
    missing = [step for step in range(1, first_step + 1) if step not in kept]
    if not missing:
        return []
    return [
        f"{path} is damaged: the rows of {len(missing)} of {first_step} steps are missing "
        f"({spans(missing)}); the run goes on, its curves will lack them"
    ]


def read_rows(path: Path) -> list[Row]:
    """All complete rows, ordered by step; if a step was logged twice, the later row counts.

    null stands for a number that was not finite, and is read as NaN.
    """
    rows: dict[int, Row] = {}
    for line in path.read_bytes().splitlines():
        if (row := _row_of(line)) is not None:
            rows[row["step"]] = {k: math.nan if v is None else v for k, v in row.items()}
    return [rows[step] for step in sorted(rows)]


def _row_of(line: bytes) -> dict[str, Any] | None:
    """A line with a step; None for one that is not a row: a killed run leaves half a line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, or not UTF-8
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def spans(numbers: Iterable[int], most: int = 5) -> str:
    """Ascending numbers in words, such as "3, 5 to 9", shortened to at most `most` ranges."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    parts = [f"{a} to {b}" if b > a else str(a) for a, b in found[:most]]
    return ", ".join(parts + ["..."] * (len(found) > most))

"""Scalars of a run: kept on the device, written in bulk to metrics.jsonl, shown in a bar."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import get_available_trackers
from torch import Tensor
from tqdm import tqdm

from openunite.files import write_text
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
            _truncate(path, first_step)

    def add(self, row: dict[str, Any]) -> None:
        """`row` holds "step" and numbers or 0-dim tensors."""
        self._pending.append(row)

    def flush(self) -> list[Row]:
        """Write what was added since the last flush; returns it as numbers."""
        rows = _numbers(self._pending)
        self._pending = []
        if self.path is not None and rows:
            with self.path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        for sink in self.sinks:
            for row in rows:
                sink(row)
        return rows


class ProgressBar:
    """step, samples/s, both losses, latent spread, time left."""

    def __init__(self, first_step: int, steps: int, *, shown: bool) -> None:
        self.bar = tqdm(
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


def _truncate(path: Path, first_step: int) -> None:
    """Drop rows of steps that will be computed again after a resume, and a torn last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= first_step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            break
    write_text(path, "".join(kept))

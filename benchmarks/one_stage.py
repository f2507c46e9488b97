"""One stage against two, over steps and widths: `python -m benchmarks.one_stage` trains the grid.

    OMP_NUM_THREADS=1 python -m benchmarks.one_stage --output runs/one-stage

The cells are those of `openunite study ablations` at other widths and numbers of steps, each number
with a schedule of its own, and they are evaluated as the study evaluates them. They are trained
one after the other in this process, so that whoever pauses it pauses everything.
OUTPUT/one_stage.json is written after every cell; the same command goes on where an earlier one was
stopped.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from openunite.cli import parse
from openunite.files import write_json
from openunite.study.run import Cell, arguments, gather, plan
from openunite.study.table import WITH_VERDICT
from openunite.study.variants import ablation_base, grid
from openunite.training.collapse import CollapseError
from openunite.training.config import RunConfig
from openunite.training.device import choose_device
from openunite.training.signals import StopSignals
from openunite.verbs import run

VARIANTS = ("default", "staged_equal_compute", "staged_equal_parameters")
# Width and steps, in the order in which a part of the grid says most; other sizes come later.
ORDER = (
    (48, 600),
    (48, 1200),
    (96, 600),
    (48, 2400),
    (96, 1200),
    (96, 2400),
    (48, 4800),
    (96, 4800),
)
CLOCK = "seconds: wall clock of training; processor_seconds: CPU time with evaluation"


@dataclass(frozen=True)
class Entry:
    """A cell of the study and its place in the figure; `steps` are those of the default."""

    width: int
    steps: int
    cell: Cell

    @property
    def key(self) -> dict[str, Any]:
        """What tells one row of the record from all others."""
        name, seed = self.cell.variant.name, self.cell.seed
        return {"variant": name, "steps": self.steps, "width": self.width, "seed": seed}


def main() -> None:
    options = _options()
    entries = entries_of(options.widths, options.steps, options.seeds, options.output)
    machine = describe(choose_device(), CLOCK)
    lists = (f"--{k} {' '.join(map(str, vars(options)[k]))}" for k in ("widths", "steps", "seeds"))
    command = f"python -m benchmarks.one_stage {' '.join(lists)}"
    about = {"command": command, "commit": machine["commit"], "machine": machine}
    options.output.mkdir(parents=True, exist_ok=True)
    if not measure(entries, options.output / "one_stage.json", about):
        print("stopped; the same command goes on")


def entries_of(
    widths: Sequence[int], steps: Sequence[int], seeds: Sequence[int], output: Path
) -> list[Entry]:
    """All cells in the order of training; within a size, every variant before the next seed."""
    variants = grid("full", VARIANTS)
    return [
        Entry(width, count, cell)
        for width, count in sizes(widths, steps)
        for cell in plan(variants, seeds, base(width, count), output / f"width{width}-steps{count}")
    ]


def sizes(widths: Sequence[int], steps: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of width and steps in the order of training: those of `ORDER`, then by cost."""

    def rank(size: tuple[int, int]) -> tuple[int, int]:
        return ORDER.index(size) if size in ORDER else len(ORDER), size[0] * size[1]

    return sorted(product(widths, steps), key=rank)


def base(width: int, steps: int) -> RunConfig:
    """The study's default at another width; the decoder follows the encoder, two heads stay."""
    config = ablation_base()
    widths = {"width": width, "decoder_width": width, "decoder_mlp_width": 2 * width}
    return replace(config, model=replace(config.model, **widths), steps=steps)


def measure(entries: Sequence[Entry], file: Path, about: dict[str, Any]) -> bool:
    """Train and evaluate every cell that has no row in `file`. False if a signal asked to stop."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.is_file() else []
    missing = [e for e in entries if not any(e.key.items() <= row.items() for row in rows)]
    with StopSignals() as stop:
        for entry in missing:
            if stop.asked or not finish(entry.cell, stop):
                return False
            rows.append(row_of(entry) | {"commit": about["commit"]})
            write_json(file, about | {"rows": rows})
            print(f"{_shown(rows[-1])} ({len(rows)} rows of {len(entries)} asked)", flush=True)
    return True


def finish(cell: Cell, stop: StopSignals) -> bool:
    """Run what is left of a cell. False if it was asked to stop; the runs have saved their step."""
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    while not cell.collapsed:
        folder, _ = cell.waiting()
        began = time.process_time()
        try:
            run(parse(arguments(cell)))
        except CollapseError as error:
            print(f"{folder.name}: {error}", flush=True)
        finally:
            spent = _spent(cell) + time.process_time() - began
            write_json(_clock(cell), {"processor_seconds": spent})
        if cell.finished:
            break
        if stop.asked or not (folder / "metrics.json").is_file():
            return False
    return True


def row_of(entry: Entry) -> dict[str, Any]:
    """What the figure needs of a finished cell; None for what a collapsed one does not have."""
    cell = entry.cell
    row = gather([cell])[cell.variant.name]
    fd, guided, recon, seconds, parameters = (
        row.metrics.get(metric, [None])[0]
        for metric in (*WITH_VERDICT, "train_seconds", "parameters")
    )
    return entry.key | {
        "fd": fd,
        "fd_guided": guided,
        "rfd": recon,
        "seconds": seconds,
        "processor_seconds": round(_spent(cell), 2),
        "parameters": parameters,
        "trained": row.steps,
        "collapsed": cell.collapsed,
    }


def _clock(cell: Cell) -> Path:
    return cell.folder.with_name(f"{cell.folder.name}-clock.json")


def _spent(cell: Cell) -> float:
    """Processor seconds of all calls that worked on this cell."""
    file = _clock(cell)
    return float(json.loads(file.read_text())["processor_seconds"]) if file.is_file() else 0.0


def _shown(row: dict[str, Any]) -> str:
    place = f"width {row['width']}, {row['steps']} steps, {row['variant']}, seed {row['seed']}"
    if row["collapsed"]:
        return f"{place}: collapsed"
    values = ", ".join(f"{name} {row[name]:.3g}" for name in ("fd", "fd_guided", "rfd"))
    return f"{place}: {values}, {row['seconds']:.0f} s"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/one-stage"), help="folder")
    parser.add_argument("--widths", type=int, nargs="+", default=[48, 96])
    parser.add_argument("--steps", type=int, nargs="+", default=[600, 1200, 2400, 4800])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()

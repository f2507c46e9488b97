"""`openunite study`: a grid of runs, several at a time, and one table of all results.

A cell is one variant with one seed. Its runs are `openunite train` commands in processes of their
own, so each can be repeated by hand. A finished run is never started again, an interrupted one
resumes. Runs on the embedded images are evaluated by `train`, others by `openunite evaluate`.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from openunite.catalog import get_recipe
from openunite.commands import Study
from openunite.evaluation.card import differences as protocols_apart
from openunite.evaluation.card import load_card, software
from openunite.evaluation.images.features import extractor_for, is_embedded, load_extractor
from openunite.files import write_json, write_text
from openunite.planning.cost import flops
from openunite.planning.scaling import muon_flops
from openunite.progress import say
from openunite.runs import Run
from openunite.study.table import Row, add, distances, draw, markdown, summary
from openunite.study.variants import Variant, ablation_base, grid
from openunite.task import Options
from openunite.training.config import RunConfig, differences, load_config, save_config
from openunite.training.device import choose_device
from openunite.training.signals import StopSignals
from openunite.verbs.configure import configure

_EVALUATION_BATCH = 50  # several processes with larger batches would fill a small memory


@dataclass
class Cell:
    """One variant with one seed: one run, or two for a two-stage variant; the last has the metrics.

    `extractor` names the feature extractor with which `openunite evaluate` measures the last run;
    it is None if that run is not evaluated.
    """

    variant: Variant
    seed: int
    runs: list[tuple[Path, RunConfig]]
    extractor: str | None = None

    @property
    def folder(self) -> Path:
        return self.runs[-1][0]

    @property
    def collapsed(self) -> bool:
        return any((folder / "collapsed.json").is_file() for folder, _ in self.runs)

    @property
    def trained(self) -> bool:
        return (self.folder / "metrics.json").is_file()

    @property
    def card(self) -> Path | None:
        """Path of the last run's protocol card, None if it is not evaluated."""
        return self.folder / f"card-{self.extractor}.json" if self.extractor else None

    @property
    def finished(self) -> bool:
        return self.collapsed or (self.trained and (self.card is None or self.card.is_file()))

    @property
    def outcome(self) -> str:
        """How far the cell is, in words."""
        if self.finished:
            return "collapsed" if self.collapsed else "finished"
        return "trained" if self.trained else "first stage done"

    def waiting(self) -> tuple[Path, RunConfig]:
        """The next run to train; if all are trained, the last one, which is then evaluated."""
        untrained = (r for r in self.runs if not (r[0] / "metrics.json").is_file())
        return next(untrained, self.runs[-1])


def study(command: Study) -> None:
    """Run the missing cells of the grid; write table.md, table.json and figure.png after each.

    Raises ValueError if the folder holds cells with other settings, if their cards cannot be
    compared, or if a run failed.
    """
    if not command.seeds or len(set(command.seeds)) < len(command.seeds):
        given = " ".join(map(str, command.seeds)) or "none"
        raise ValueError(f"--seeds must be different numbers, at least one, got {given}")
    output = Path(command.output or f"runs/ablations-{command.grid}")
    base = _base(command)
    extractor, note = _extractor(base.data.source)
    cells = plan(grid(command.grid, command.variants), command.seeds, base, output, extractor)
    _check(cells)
    output.mkdir(parents=True, exist_ok=True)
    with StopSignals() as stop:
        complete = _run_all(cells, max(1, command.processes), output, stop, note)
    write(cells, output, note)
    if not complete:
        say("stopped; repeat the command to continue")
        return
    say("\n" + (output / "table.md").read_text())
    say(f"-> {output / 'table.md'}, table.json, figure.png")


def _base(command: Study) -> RunConfig:
    """The settings of the default variant: the embedded images, or sizes chosen from --data."""
    base = ablation_base()
    if command.data is not None:
        own = configure(get_recipe("images")(), Options(steps=command.steps), command.data)
        every = max(1, own.steps // 6)
        own = replace(own, recipe=base.recipe, checkpoint_every=every, preview_every=0)
        return replace(own, objective=base.objective, sampling=base.sampling)
    if command.steps is not None:
        every = max(1, command.steps // 6)
        base = replace(base, steps=command.steps, checkpoint_every=every)
    return base


def _extractor(data: str) -> tuple[str | None, str]:
    """The extractor for `openunite evaluate`, if runs need it, and a sentence for the table."""
    if is_embedded(data):
        return None, ""
    name = extractor_for(data)
    try:
        label = load_extractor(name).label
    except (ImportError, FileNotFoundError) as error:
        return None, f"No Frechet distances and no verdicts: {error}; then run the study again."
    return name, f"FD and rFD: {label}, as the protocol card of each run says (card-{name}.json)."


def plan(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    base: RunConfig,
    output: Path,
    extractor: str | None = None,
) -> list[Cell]:
    """All cells: every variant with the first seed, then with the next one."""
    cells = []
    for seed in seeds:
        for variant in variants:
            folder, seeded = output / f"{variant.name}-{seed}", replace(base, seed=seed)
            if not variant.staged:
                cells.append(Cell(variant, seed, [(folder, variant.apply(seeded))], extractor))
                continue
            first = folder.with_name(f"{folder.name}-autoencoder")
            steps = stage_steps(seeded, variant.apply(seeded))
            stages = variant.stages(seeded, steps, str(first))
            runs = list(zip((first, folder), stages, strict=True))
            cells.append(Cell(variant, seed, runs, extractor))
    return cells


def stage_steps(default: RunConfig, staged: RunConfig) -> int:
    """Optimizer steps of each of two stages that together need as many operations as `default`.

    Per sample, the first stage tokenizes and decodes; the second runs the frozen tokenizer forward
    (a third of forward and backward) and trains on its flow draws. Per step, Muon orthogonalizes
    the trained networks: tokenizer and decoder in the first stage, the denoiser in the second.
    """
    one = replace(staged, model=replace(staged.model, tokenizer="shared"))  # either network
    joint, each = (flops(config, as_released=False) for config in (default, one))
    samples = default.batch_size
    whole = samples * joint.step(default.objective.flow_draws)
    first = samples * each.step(0)
    second = samples * (each.tokenize / 3 + staged.objective.flow_draws * each.flow_draw)
    first, second = first + muon_flops(one), second + muon_flops(one, with_decoder=False)
    return round(default.steps * (whole + muon_flops(default)) / (first + second))


def _check(cells: Sequence[Cell]) -> None:
    for folder, config in (run for cell in cells for run in cell.runs):
        if (folder / "config.yaml").is_file():
            known = load_config(folder / "config.yaml")
            if changed := differences(replace(config, num_classes=known.num_classes), known):
                raise ValueError(
                    f"{folder} holds a run with other settings ({'; '.join(changed)}); choose "
                    "another --output, or repeat the settings of that study"
                )
    _check_cards(cells)


def _check_cards(cells: Sequence[Cell]) -> None:
    """Raise ValueError if two cards have different protocols."""
    paths = [c.card for c in cells if c.card and c.finished and not c.collapsed]
    cards = [(path, load_card(path)) for path in paths]
    for path, card in cards[1:]:
        if apart := protocols_apart(cards[0][1], card):
            raise ValueError(
                f"{paths[0]} and {path} cannot be compared ({'; '.join(apart)}); delete the wrong "
                "one and run the same command again"
            )


def _run_all(
    cells: Sequence[Cell], processes: int, output: Path, stop: StopSignals, note: str = ""
) -> bool:
    """Keep `processes` runs going until all cells are finished; False after a stop signal."""
    waiting = [cell for cell in cells if not cell.finished]
    running: list[tuple[Cell, subprocess.Popen[bytes]]] = []
    try:
        while (waiting or running) and not stop.asked:
            while waiting and len(running) < processes:
                cell = waiting.pop(0)
                running.append((cell, _start(cell)))
            time.sleep(0.2)
            for cell, process in [pair for pair in running if pair[1].poll() is not None]:
                running.remove((cell, process))
                _finish(cell, process, waiting)
                done = sum(c.finished for c in cells)
                say(f"{cell.folder.name}: {cell.outcome} ({done} of {len(cells)})")
                write(cells, output, note)
    finally:
        for _, process in running:
            process.terminate()  # it saves and ends; a second signal would kill it
        for _, process in running:
            process.wait()
    return not waiting and not running


def _start(cell: Cell) -> "subprocess.Popen[bytes]":
    """Start the next run in its own session, so that only `_run_all` handles Ctrl-C."""
    folder, _ = cell.waiting()
    command = [sys.executable, "-m", "openunite.cli", *arguments(cell)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_MININTERVAL": "10"}
    with _log(folder).open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=env, start_new_session=True)


def arguments(cell: Cell) -> list[str]:
    """The next `openunite` command of a cell: train a run, or evaluate the last one."""
    folder, config = cell.waiting()
    if cell.trained:
        few = ["--batch-size", str(_EVALUATION_BATCH)]
        return ["evaluate", str(folder), "--extractor", f"{cell.extractor}", *few]
    settings = folder.with_name(f"{folder.name}.yaml")
    save_config(config, settings)
    return ["train", "--config", str(settings), "--output", str(folder)]


def _finish(cell: Cell, process: "subprocess.Popen[bytes]", waiting: list[Cell]) -> None:
    """Put an unfinished cell back into the queue. Raises ValueError if its run failed."""
    if cell.finished:
        return
    if process.returncode == 0:
        # A second stage or an evaluation follows, or a signal stopped the run.
        waiting.insert(0, cell)
        return
    folder, _ = cell.waiting()
    lines = _log(folder).read_text(errors="replace").strip().splitlines()
    raise ValueError(
        f"{folder.name} ended with status {process.returncode} ({(lines or ['nothing'])[-1]}); "
        f"fix that and run the same command again; {_log(folder)} has more"
    )


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def write(cells: Sequence[Cell], output: Path, note: str = "") -> None:
    """Write table.md, table.json and figure.png of the finished cells."""
    _check_cards(cells)
    table = list(gather(cells).values())
    write_text(output / "table.md", markdown(table, note))
    default = cells[0].runs[0][1]
    settings = {
        "data": default.data.source,
        "guidance_scale": default.sampling.guidance_scale,
        "seeds": sorted({c.seed for c in cells}),
        "steps": default.steps,
        "software": asdict(software(str(choose_device()), 1, default.batch_size)),
    }
    values = {**settings, **({"note": note} if note else {}), "rows": summary(table)}
    write_json(output / "table.json", values)
    draw(table, output / "figure.png")


def gather(cells: Sequence[Cell]) -> dict[str, Row]:
    """One row per variant, in the order of the grid; two stages count as one run."""
    rows: dict[str, Row] = {}
    for cell in cells:
        variant = cell.variant
        each, stages = cell.runs[-1][1].steps, len(cell.runs)  # both stages have the same number
        steps = str(each) if stages == 1 else f"{stages} x {each}"
        new = Row(variant.name, variant.axis, variant.numbers, variant.paper, steps=steps)
        row = rows.setdefault(variant.name, new)
        if cell.collapsed:
            rows[variant.name] = replace(row, collapsed=row.collapsed + 1)
        elif cell.finished:
            parts = [Run(folder).metrics for folder, _ in cell.runs]
            seconds = sum(part["train_seconds"] for part in parts)
            found = distances(load_card(cell.card)) if cell.card else {}
            add(row, parts[-1] | {"train_seconds": seconds} | found)
    return rows

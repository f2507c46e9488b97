"""`openunite train`: data, models, trainer; then evaluation, pictures, pipeline."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from openunite.baselines.objectives import BaselineObjective
from openunite.baselines.staged import standardize
from openunite.catalog import recipes
from openunite.commands import Train
from openunite.drawing.pictures import draw_curves
from openunite.files import read_json, write_json
from openunite.flow.random import SlotRandom
from openunite.progress import is_shown, say, showing
from openunite.runs import Run, load_pipeline, make_pipeline
from openunite.settings import expected
from openunite.task import Data, Options, Task, get_task
from openunite.texts import printable
from openunite.training.build import build_models, build_objective, transfer
from openunite.training.checkpoint import is_sound, list_checkpoints
from openunite.training.collapse import CollapseError
from openunite.training.config import RunConfig, differences, load_config, save_config
from openunite.training.device import on_cpu
from openunite.training.lock import run_lock
from openunite.training.trainer import Trainer, TrainResult
from openunite.verbs.conditions import (
    check_conditions,
    describe_conditions,
    resolve_conditions,
    say_effects,
    with_conditions,
)
from openunite.verbs.configure import base_config, configure, fit_to_minutes
from openunite.verbs.info import describe_config


@dataclass(frozen=True)
class Callbacks:
    """What a program hears of its run: each row of the log, each preview, and the end."""

    on_step: Callable[[dict[str, float]], None] | None = None
    on_preview: Callable[[Path, int], None] | None = None
    on_end: Callable[[Run], None] | None = None


def train(
    config: str | Path | RunConfig,
    data: Any = None,
    *,
    output: str | Path | None = None,
    progress: bool = False,
    on_step: Callable[[dict[str, float]], None] | None = None,
    on_preview: Callable[[Path, int], None] | None = None,
    on_end: Callable[[Run], None] | None = None,
    **options: Any,
) -> Run:
    """Train, or go on training, and return the run: its pipeline, metrics, log and pictures.

    `config` is the name of a recipe ("images", "qm9"), a config.yaml or a `RunConfig`; `data` a
    path, a hub id, or what is in memory: a list of PIL images, an array, a data set with a length;
    for molecules and crystals a list of ASE `Atoms`, RDKit molecules or pymatgen structures.
    `output` is the run folder (default runs/RECIPE): the same call again goes on where it stopped.
    `options` are the fields of `openunite.task.Options`: minutes, steps, size, image_size,
    patch_size, max_atoms, batch_size, max_bad_share, seed, sharding, compile, init_from,
    `condition`, a tuple of "NAME[=KIND][:COLUMN]", and `set`, a tuple of "section.field=value".
    Nothing is printed unless `progress` asks for it. `on_step` gets each row of the log,
    `on_preview` the file and the step of each preview, `on_end` the run.

    Raises ValueError, OSError or ImportError, one sentence, for what cannot be; CollapseError and
    FloatingPointError if the training fails.
    """
    known = {f.name: f for f in fields(Options)}
    for name in options:
        if name not in known:
            raise ValueError(f"unknown option {name}, {expected(name, known)}")
    with showing(progress or is_shown()):
        base, fresh = base_config(config)
        asked = Options(fresh=fresh, **{k: _listed(k, v) for k, v in options.items()})
        folder = Path(output or f"runs/{base.recipe if fresh else 'again'}")
        chosen = configure(base, asked, data)
        heard = Callbacks(on_step, on_preview, on_end)
        return start(chosen, folder, asked, data, heard)


def _listed(name: str, value: Any) -> Any:
    """One assignment or condition is as good as a tuple of one."""
    return (value,) if name in ("set", "condition") and isinstance(value, str) else value


def run(command: Train) -> None:
    """Do what the command says."""
    if bool(command.recipe) == bool(command.config):
        raise ValueError(f"name one recipe ({', '.join(recipes())}) or pass --config FILE")
    config: str | Path = command.recipe if command.config is None else Path(command.config)
    options = {f.name: getattr(command, f.name) for f in fields(Options) if f.name != "fresh"}
    if command.dry_run:
        base, fresh = base_config(config)
        describe_config(configure(base, Options(fresh=fresh, **options), command.data))
        return
    train(config, command.data, output=command.output, progress=True, **options)


def start(
    config: RunConfig,
    folder: Path,
    options: Options = Options(),  # noqa: B008  frozen
    data: Any = None,
    heard: Callbacks = Callbacks(),
) -> Run:
    """Train by these settings in a folder, then leave pictures, metrics and a pipeline there.

    A run that has all this is not evaluated again; without its metrics.json it is.
    """
    # The others wait while the first process scans the data, longer than the usual ten minutes.
    state = PartialState(cpu=on_cpu(), timeout=timedelta(hours=6))
    task, source = get_task(config.modality), config.data.source if data is None else data
    with state.main_process_first():
        opened: Data = task.open(config, source, progress=state.is_main_process)
    config = resolve_conditions(task.resolve(config, opened), task, opened.train)
    config = _timed(config, options, folder, opened, state)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder) if state.is_main_process else nullcontext():
        _train(config, folder, task, opened, state, heard)
    found = Run(folder)
    if heard.on_end is not None and state.is_main_process:
        heard.on_end(found)
    return found


def _train(
    config: RunConfig, folder: Path, task: Task, data: Data, state: PartialState, heard: Callbacks
) -> None:
    """Train in a folder that is this program's own."""
    if state.is_main_process:
        _claim(folder, config, task, data)
    state.wait_for_everyone()
    if _is_finished(folder, state):
        if state.is_main_process:
            say(f"{folder} is finished; delete {folder / 'metrics.json'} to evaluate it again")
            _summarize(folder, task)
        return
    result, trainer = _fit(config, folder, task, data, heard)
    if not result.finished:
        if state.is_main_process:
            say(f"stopped and saved at step {result.steps_done}; the same command goes on")
        return
    if state.is_main_process:
        say_effects(trainer.average.encoder, trainer.dataset)
        _finish(config, folder, task, data, trainer.average, result)


def _timed(
    config: RunConfig, options: Options, folder: Path, data: Data, state: PartialState
) -> RunConfig:
    """How many steps --minutes comes to is measured once, on one process, and remembered."""
    result = [config]
    if state.is_main_process:
        saved = folder / "config.yaml"
        known = load_config(saved).steps if saved.is_file() else None
        result[0] = fit_to_minutes(config, options, data.train, known, state.num_processes)
    broadcast_object_list(result)
    return result[0]


def _claim(folder: Path, config: RunConfig, task: Task, data: Data) -> None:
    """Make the run folder, or check that it holds this very run."""
    path, record = folder / "config.yaml", folder / "data.json"
    if path.is_file():
        if changed := differences(load_config(path), config):
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(changed)}); choose another "
                "--output, or repeat the settings of that run"
            )
        if _fingerprint(record) != data.fingerprint:
            raise ValueError(
                f"the data behind {config.data.source} changed since {folder} was started; choose "
                "another --output, or restore the data"
            )
        return
    skipped = [f"{item.name}: {item.reason}" for item in data.skipped]
    for line in skipped:
        say(printable(f"skipped {line}"), err=True)
    notes = list(getattr(data, "notes", ()))
    for line in notes:
        say(printable(f"note: {line}"), err=True)
    about = {
        "name": data.name,
        "train_size": len(data.train),
        "test_size": len(data.test),
        **task.record(data),
        "skipped": skipped,
        "notes": notes,
        "fingerprint": data.fingerprint,
    }
    write_json(record, about)
    save_config(config, path)
    classes = f"{config.num_classes} classes" if config.num_classes else "no classes"
    for line in describe_conditions(config):
        say(printable(line))
    say(
        f"{folder}: {len(data.train)} training and {len(data.test)} held-out {task.things}, "
        f"{classes}, {len(skipped)} skipped"
    )


def _fingerprint(record: Path) -> str:
    """What data.json says of the data. ValueError says what to do without it."""
    try:
        return str(read_json(record)["fingerprint"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{record} is missing or damaged ({error}), so nobody knows whether the data are still "
            f"the same; restore it, or delete {record.with_name('config.yaml')} and repeat the "
            "settings of the run: then it goes on with the data as they are now"
        ) from error


def _is_finished(folder: Path, state: PartialState) -> bool:
    """Whether the run is finished; all processes hear what the main one sees."""
    result = [state.is_main_process and Run(folder).is_finished]
    broadcast_object_list(result)
    return result[0]


def _fit(
    config: RunConfig, folder: Path, task: Task, data: Data, heard: Callbacks
) -> tuple[TrainResult, Trainer]:
    encoder, decoder = build_models(config)
    origin = config.init_from
    if origin is not None and any(map(is_sound, list_checkpoints(folder / "checkpoints"))):
        origin = None  # this run has weights by now; the other one may be gone
    if origin is not None:
        source = load_pipeline(origin)
        check_conditions(config, source.encoder.config.conditions or {}, origin)
        for name, target in (("encoder", encoder), ("decoder", decoder)):
            report = transfer(getattr(source, name).state_dict(), target)
            if PartialState(cpu=on_cpu()).is_main_process:
                say(f"{name} from {origin}: {report.summary()}")
    objective = build_objective(config, encoder, decoder)
    if config.objective.stage == "denoiser" and origin is not None:
        assert isinstance(objective, BaselineObjective)
        _standardize(objective, config, data)
    preview = partial(_preview, config, folder, task, task.record(data), heard)
    train_data = with_conditions(data.train, config, task)
    trainer = Trainer(objective, train_data, config, folder, preview, heard.on_step)
    try:
        return trainer.fit(), trainer
    except CollapseError as error:
        if trainer.accelerator.is_main_process:
            write_json(folder / "collapsed.json", {"message": str(error)})
        raise


def _standardize(objective: BaselineObjective, config: RunConfig, data: Data) -> None:
    """Between two stages, by the latents of 256 training images."""
    indices = range(0, len(data.train), max(1, len(data.train) // 256))[:256]
    random = SlotRandom(config.seed, 0, torch.arange(len(indices)))
    standardize(objective, data.train.batch(list(indices)), random)


def _preview(
    config: RunConfig,
    folder: Path,
    task: Task,
    record: dict[str, Any],
    heard: Callbacks,
    ema: Any,
    step: int,
) -> None:
    pipeline = make_pipeline(ema.encoder, ema.decoder, config, record)
    (folder / "previews").mkdir(exist_ok=True)
    picture = folder / "previews" / f"step-{step:08d}.png"
    task.preview(pipeline, config, picture)
    if heard.on_preview is not None:
        heard.on_preview(picture, step)


def _finish(
    config: RunConfig, folder: Path, task: Task, data: Data, ema: Any, result: TrainResult
) -> None:
    """Pipeline first, so that nothing later can lose it; then pictures and metrics."""
    pipeline = make_pipeline(ema.encoder, ema.decoder, config, task.record(data))
    pipeline.save_pretrained(folder / "pipeline")
    draw_curves(folder / "metrics.jsonl", folder / "curves.png")
    # An autoencoder alone has no samples to judge; its reconstructions are judged with them.
    metrics = task.finish(config, folder, data, pipeline) if config.kind.generates else {}
    rate = config.steps * config.batch_size / result.train_seconds
    metrics |= {
        "train_seconds": round(result.train_seconds, 2),
        f"{task.things}_per_second": round(rate, 1),
        "steps": config.steps,
        "parameters": sum(p.numel() for m in (ema.encoder, ema.decoder) for p in m.parameters()),
        "seed": config.seed,
        "torch_version": torch.__version__,
    }
    write_json(folder / "metrics.json", metrics)
    _summarize(folder, task)


def _summarize(folder: Path, task: Task) -> None:
    """A short table, without errors and totals, and what to try next."""
    shown = {k: v for k, v in Run(folder).metrics.items() if not k.endswith(("_se", "_of"))}
    width = max(map(len, shown))
    say()
    for name, value in shown.items():
        say(
            f"  {name:<{width}} {value:.4f}"
            if isinstance(value, float)
            else f"  {name:<{width}} {value}"
        )
    pictures = ", ".join(path.name for path in Run(folder).pictures)
    say(f"\nPictures in {folder}: {pictures}. Next:")
    for line in task.next_commands(folder):
        say(f"  {line}")

"""`openunite train`: open the data, build and train the models, then evaluate and save them."""

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
from openunite.files import read_json, write_json
from openunite.flow.random import SlotRandom
from openunite.progress import is_shown, say, showing
from openunite.runs import Run, load_pipeline, make_pipeline, source_of
from openunite.settings import check_options
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
    describe_columns,
    describe_conditions,
    fingerprint_with,
    list_columns,
    resolve_conditions,
    say_effects,
    with_conditions,
)
from openunite.verbs.configure import base_config, configure, fit_to_minutes
from openunite.verbs.finish import finish, summarize
from openunite.verbs.info import describe_config


@dataclass(frozen=True)
class Callbacks:
    """Functions called with each row of the log, with each preview, and at the end of a run."""

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
    """Train, or resume training, and return the run with its pipeline, metrics, log and pictures.

    `config` is the name of a recipe ("images", "qm9"), a config.yaml or a `RunConfig`. `data` is a
    path, a hub id, or data in memory: a list of PIL images, an array, a data set with a length; for
    molecules and crystals a list of ASE `Atoms`, RDKit molecules or pymatgen structures. `output`
    is the run folder (default runs/RECIPE): the same call again resumes a run that was stopped.
    `options` are the fields of `openunite.task.Options`: minutes, steps, size, image_size,
    patch_size, max_atoms, batch_size, max_bad_share, seed, sharding, compile, init_from,
    `condition`, a tuple of "NAME[=KIND][:COLUMN]", and `set`, a tuple of "section.field=value".
    Nothing is printed unless `progress` is True. `on_step` gets each row of the log, `on_preview`
    the file and the step of each preview, `on_end` the run.

    Raises ValueError, OSError or ImportError with one sentence for wrong arguments or data;
    CollapseError or FloatingPointError if the training fails.
    """
    check_options(options, Options)
    with showing(progress or is_shown()):
        base, fresh = base_config(config)
        asked = Options(fresh=fresh, **{k: _listed(k, v) for k, v in options.items()})
        folder = Path(output or f"runs/{base.recipe if fresh else 'again'}")
        chosen = configure(base, asked, data)
        heard = Callbacks(on_step, on_preview, on_end)
        return start(chosen, folder, asked, data, heard)


def _listed(name: str, value: Any) -> Any:
    """The value of an option; for `set` and `condition`, a single string becomes a tuple."""
    return (value,) if name in ("set", "condition") and isinstance(value, str) else value


def run(command: Train) -> None:
    """Run `openunite train`."""
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
    """Train with these settings in `folder`, then write a pipeline, pictures and metrics there.

    A finished run is not evaluated again unless its metrics.json was deleted.
    """
    # Scanning the data on the main process may exceed the default timeout of ten minutes.
    state = PartialState(cpu=on_cpu(), timeout=timedelta(hours=6))
    task, source = get_task(config.modality), source_of(config, data)
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
    """Train in a folder that is locked by this program."""
    if state.is_main_process:
        _claim(folder, config, task, data)
    state.wait_for_everyone()
    if _is_finished(folder, state):
        if state.is_main_process:
            say(f"{folder} is finished; delete {folder / 'metrics.json'} to evaluate it again")
            summarize(folder, task)
        return
    result, trainer = _fit(config, folder, task, data, heard)
    if not result.finished:
        if state.is_main_process:
            say(f"stopped and saved at step {result.steps_done}; the same command goes on")
        return
    if state.is_main_process:
        say_effects(trainer.average.encoder, trainer.dataset)
        finish(config, folder, task, data, trainer.average, result)


def _timed(
    config: RunConfig, options: Options, folder: Path, data: Data, state: PartialState
) -> RunConfig:
    """The settings with the number of steps for --minutes, which is measured only once per run."""
    result = [config]
    if state.is_main_process:
        saved = folder / "config.yaml"
        known = load_config(saved).steps if saved.is_file() else None
        result[0] = fit_to_minutes(config, options, data.train, known, state.num_processes)
    broadcast_object_list(result)
    return result[0]


def _claim(folder: Path, config: RunConfig, task: Task, data: Data) -> None:
    """Begin a run in a new folder, or check that an old one holds this run.

    Raises ValueError if settings or data differ.
    """
    path, record = folder / "config.yaml", folder / "data.json"
    if not path.is_file():
        _begin(folder, config, task, data)
        return
    if changed := differences(load_config(path), config):
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}); choose another "
            "--output, or repeat the settings of that run"
        )
    if _fingerprint(record) != fingerprint_with(config, task, data):
        raise ValueError(
            f"the data behind {config.data.source} changed since {folder} was started; choose "
            "another --output, or restore the data"
        )


def _begin(folder: Path, config: RunConfig, task: Task, data: Data) -> None:
    """Write data record and settings of a new run, and print what the data are."""
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
        "columns": list_columns(task.columns(data.train)),
        "fingerprint": fingerprint_with(config, task, data),
    }
    write_json(folder / "data.json", about)
    save_config(config, folder / "config.yaml")
    classes = f"{config.num_classes} classes" if config.num_classes else "no classes"
    for line in describe_columns(about["columns"]):
        say(printable(line))
    for line in describe_conditions(config):
        say(printable(line))
    say(
        f"{folder}: {len(data.train)} training and {len(data.test)} held-out {task.things}, "
        f"{classes}, {len(skipped)} skipped"
    )


def _fingerprint(record: Path) -> str:
    """The fingerprint of the data in data.json. Raises ValueError if it cannot be read."""
    try:
        return str(read_json(record)["fingerprint"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{record} is missing or damaged ({error}), so nobody knows whether the data are still "
            f"the same; restore it, or delete {record.with_name('config.yaml')} and repeat the "
            "settings of the run: then it goes on with the data as they are now"
        ) from error


def _is_finished(folder: Path, state: PartialState) -> bool:
    """Whether the run is finished, as the main process sees it; the same on all processes."""
    result = [state.is_main_process and Run(folder).is_finished]
    broadcast_object_list(result)
    return result[0]


def _fit(
    config: RunConfig, folder: Path, task: Task, data: Data, heard: Callbacks
) -> tuple[TrainResult, Trainer]:
    encoder, decoder = build_models(config)
    origin = config.init_from
    if origin is not None and any(map(is_sound, list_checkpoints(folder / "checkpoints"))):
        origin = None  # this run has its own weights; the other run may be gone
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
    """Standardize latents before the second stage, by those of at most 256 training samples."""
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

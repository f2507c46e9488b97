"""`openunite train`: open the data, build and train the models, then evaluate and save them."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from openunite.baselines.objectives import BaselineObjective
from openunite.baselines.staged import standardize
from openunite.catalog import recipes
from openunite.clock import counting
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
from openunite.training.deadline import Deadline
from openunite.training.device import on_cpu
from openunite.training.lock import run_lock
from openunite.training.trainer import Trainer
from openunite.verbs.conditions import (
    Columns,
    check_conditions,
    describe_columns,
    describe_conditions,
    fingerprint_with,
    resolve_conditions,
    say_effects,
    with_conditions,
)
from openunite.verbs.configure import base_config, configure
from openunite.verbs.finish import finish, summarize
from openunite.verbs.info import describe_config
from openunite.verbs.minutes import timed


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
    `condition`, a tuple of `NAME[=KIND][:COLUMN]`, and `set`, a tuple of "section.field=value".
    Nothing is printed unless `progress` is True. `on_step` gets each row of the log, `on_preview`
    the file and the step of each preview, `on_end` the run.

    Raises ValueError, OSError or ImportError with one sentence for wrong arguments or data;
    CollapseError or FloatingPointError if the training fails.
    """
    check_options(options, Options)
    with showing(progress or is_shown()), counting():
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
    columns = Columns(task, opened.train)
    config = resolve_conditions(task.resolve(config, opened), columns)
    config, deadline = timed(config, options, folder, task, opened, state)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder) if state.is_main_process else nullcontext():
        _Job(config, folder, task, opened, columns, heard, state, deadline).run()
    found = Run(folder)
    if heard.on_end is not None and state.is_main_process:
        heard.on_end(found)
    return found


@dataclass(frozen=True)
class _Job:
    """A run with resolved settings and opened data, in a folder that is locked by this program."""

    config: RunConfig
    folder: Path
    task: Task
    data: Data
    columns: Columns
    heard: Callbacks
    state: PartialState
    deadline: Deadline | None

    def run(self) -> None:
        """Begin or resume the run, train, and finish it if no signal stopped the training."""
        folder, task, main = self.folder, self.task, self.state.is_main_process
        if main:
            self.claim()
        self.state.wait_for_everyone()
        finished = [main and Run(folder).is_finished]
        broadcast_object_list(finished)
        if finished[0]:
            if main:
                say(f"{folder} is finished; delete {folder / 'metrics.json'} to evaluate it again")
                summarize(folder, task)
            return
        trainer = self.trainer()
        try:
            result = trainer.fit()
        except CollapseError as error:
            if main:
                write_json(folder / "collapsed.json", {"message": str(error)})
            raise
        if main and not result.finished:
            say(f"stopped and saved at step {result.steps_done}; the same command goes on")
        elif main:
            with trainer.threads:
                say_effects(trainer.average.encoder, trainer.dataset)
                finish(trainer.config, folder, task, self.data, trainer.average, result)

    def claim(self) -> None:
        """Begin a run in a new folder, or check that an old one holds this run.

        Raises ValueError if settings or data differ.
        """
        folder, path = self.folder, self.folder / "config.yaml"
        if not path.is_file():
            self.begin()
            return
        if changed := differences(load_config(path), self.config):
            raise ValueError(
                f"{folder} holds a run with other settings ({'; '.join(changed)}); choose another "
                "--output, or repeat the settings of that run"
            )
        if _fingerprint(folder / "data.json") != self.fingerprint:
            raise ValueError(
                f"the data behind {self.config.data.source} changed since {folder} was started; "
                "choose another --output, or restore the data"
            )

    @property
    def fingerprint(self) -> str:
        """That of the data with the columns that are used."""
        return fingerprint_with(self.data.fingerprint, self.config, self.columns)

    def begin(self) -> None:
        """Write data record and settings of a new run, and print what the data are."""
        config, data, folder = self.config, self.data, self.folder
        skipped = [f"{item.name}: {item.reason}" for item in data.skipped]
        notes = list(getattr(data, "notes", ()))
        for line in [*(f"skipped {x}" for x in skipped), *(f"note: {x}" for x in notes)]:
            say(printable(line), err=True)
        sizes = {"train_size": len(data.train), "test_size": len(data.test)}
        about = {"name": data.name, **sizes, **self.task.record(data)}
        about |= {"skipped": skipped, "notes": notes, "columns": self.columns.listed()}
        about["fingerprint"] = self.fingerprint
        write_json(folder / "data.json", about)
        save_config(config, folder / "config.yaml")
        for line in [*describe_columns(about["columns"]), *describe_conditions(config)]:
            say(printable(line))
        classes = f"{config.num_classes} classes" if config.num_classes else "no classes"
        say(
            f"{folder}: {len(data.train)} training and {len(data.test)} held-out "
            f"{self.task.things}, {classes}, {len(skipped)} skipped"
        )

    def trainer(self) -> Trainer:
        """A trainer of models that are new, or start from the weights of another run."""
        config = self.config
        encoder, decoder = build_models(config)
        origin = config.init_from
        if origin and any(map(is_sound, list_checkpoints(self.folder / "checkpoints"))):
            origin = None  # this run has its own weights; the other run may be gone
        if origin is not None:
            source = load_pipeline(origin)
            check_conditions(config, source.encoder.config.conditions or {}, origin)
            for name, target in (("encoder", encoder), ("decoder", decoder)):
                report = transfer(getattr(source, name).state_dict(), target)
                if self.state.is_main_process:
                    say(f"{name} from {origin}: {report.summary()}")
        objective = build_objective(config, encoder, decoder)
        if config.objective.stage == "denoiser" and origin is not None:
            assert isinstance(objective, BaselineObjective)
            _standardize(objective, config, self.data)
        data = with_conditions(self.data.train, config, self.columns)
        self.columns.forget()  # large data have large columns, and training does not read them
        heard, deadline = self.heard, self.deadline
        return Trainer(objective, data, config, self.folder, self.preview, heard.on_step, deadline)

    def preview(self, ema: Any, step: int) -> None:
        """Write a picture of samples of the averaged weights after some steps."""
        pipeline = make_pipeline(ema.encoder, ema.decoder, self.config, self.task.record(self.data))
        (self.folder / "previews").mkdir(exist_ok=True)
        picture = self.folder / "previews" / f"step-{step:08d}.png"
        self.task.preview(pipeline, self.config, picture)
        if self.heard.on_preview is not None:
            self.heard.on_preview(picture, step)


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


def _standardize(objective: BaselineObjective, config: RunConfig, data: Data) -> None:
    """Standardize latents before the second stage, by those of at most 256 training samples."""
    indices = range(0, len(data.train), max(1, len(data.train) // 256))[:256]
    random = SlotRandom(config.seed, 0, torch.arange(len(indices)))
    standardize(objective, data.train.batch(list(indices)), random)

"""`openunite train`: data, models, trainer; then evaluation, pictures, pipeline."""

import json
import sys
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from openunite.baselines.objectives import BaselineObjective
from openunite.baselines.staged import standardize
from openunite.commands import Train
from openunite.drawing.pictures import draw_curves
from openunite.files import read_json, write_json
from openunite.flow.random import SlotRandom
from openunite.loading import load_pipeline, make_pipeline
from openunite.task import Data, Task, get_task
from openunite.texts import printable
from openunite.training.build import build_models, build_objective, transfer
from openunite.training.checkpoint import checkpoint_name, is_sound, list_checkpoints
from openunite.training.collapse import CollapseError
from openunite.training.config import RunConfig, differences, load_config, save_config
from openunite.training.device import on_cpu
from openunite.training.lock import run_lock
from openunite.training.trainer import Trainer, TrainResult
from openunite.verbs.configure import configure, fit_to_minutes
from openunite.verbs.info import describe_config


def train(command: Train) -> None:
    """Train, or go on training, then leave pictures, metrics and a pipeline in the run folder.

    A run that has all this is not judged again; without its metrics.json it is.
    """
    if command.dry_run:
        describe_config(configure(command))
        return
    # The others wait while the first process scans the data, longer than the usual ten minutes.
    state = PartialState(cpu=on_cpu(), timeout=timedelta(hours=6))
    folder = Path(command.output or f"runs/{command.recipe or 'again'}")
    config = configure(command)
    task = get_task(config.modality)
    with state.main_process_first():
        data: Data = task.open(config, progress=state.is_main_process)
    config = _timed(task.resolve(config, data), command, folder, data, state)
    folder.mkdir(parents=True, exist_ok=True)
    with run_lock(folder) if state.is_main_process else nullcontext():
        _train(config, folder, task, data, state)


def _train(config: RunConfig, folder: Path, task: Task, data: Data, state: PartialState) -> None:
    """Train in a folder that is this command's own."""
    if state.is_main_process:
        _claim(folder, config, task, data)
    state.wait_for_everyone()
    if _is_finished(folder, config, state):
        if state.is_main_process:
            print(f"{folder} is finished; delete {folder / 'metrics.json'} to judge it again")
            _summarize(folder, task, json.loads((folder / "metrics.json").read_text()))
        return
    result, trainer = _fit(config, folder, task, data)
    if not result.finished:
        state.print(f"stopped and saved at step {result.steps_done}; the same command goes on")
        return
    if state.is_main_process:
        _finish(config, folder, task, data, trainer.average, result)


def _timed(
    config: RunConfig, command: Train, folder: Path, data: Data, state: PartialState
) -> RunConfig:
    """How many steps --minutes comes to is measured once, on one process, and remembered."""
    result = [config]
    if state.is_main_process:
        saved = folder / "config.yaml"
        known = load_config(saved).steps if saved.is_file() else None
        result[0] = fit_to_minutes(config, command, data.train, known, state.num_processes)
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
        print(printable(f"skipped {line}"), file=sys.stderr)
    about = {
        "name": data.name,
        "train_size": len(data.train),
        "test_size": len(data.test),
        **task.record(data),
        "skipped": skipped,
        "fingerprint": data.fingerprint,
    }
    write_json(record, about)
    save_config(config, path)
    classes = f"{config.num_classes} classes" if config.num_classes else "no classes"
    print(
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


def _is_finished(folder: Path, config: RunConfig, state: PartialState) -> bool:
    """Whether there are metrics of the last step; all processes hear what the main one sees."""
    result = [False]
    metrics, checkpoints = folder / "metrics.json", list_checkpoints(folder / "checkpoints")
    if state.is_main_process and metrics.is_file() and checkpoints:
        last = checkpoints[0].name == checkpoint_name(config.steps)
        result[0] = last and metrics.stat().st_mtime >= checkpoints[0].stat().st_mtime
    broadcast_object_list(result)
    return result[0]


def _fit(config: RunConfig, folder: Path, task: Task, data: Data) -> tuple[TrainResult, Trainer]:
    encoder, decoder = build_models(config)
    origin = config.init_from
    if origin is not None and any(map(is_sound, list_checkpoints(folder / "checkpoints"))):
        origin = None  # this run has weights by now; the other one may be gone
    if origin is not None:
        source = load_pipeline(origin)
        for name, target in (("encoder", encoder), ("decoder", decoder)):
            report = transfer(getattr(source, name).state_dict(), target)
            PartialState(cpu=on_cpu()).print(f"{name} from {origin}: {report.summary()}")
    objective = build_objective(config, encoder, decoder)
    if config.objective.stage == "denoiser" and origin is not None:
        assert isinstance(objective, BaselineObjective)
        _standardize(objective, config, data)
    preview = partial(_preview, config, folder, task, task.record(data))
    trainer = Trainer(objective, data.train, config, folder, preview)
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
    config: RunConfig, folder: Path, task: Task, record: dict[str, Any], ema: Any, step: int
) -> None:
    pipeline = make_pipeline(ema.encoder, ema.decoder, config, record)
    (folder / "previews").mkdir(exist_ok=True)
    task.preview(pipeline, config, folder / "previews" / f"step-{step:08d}.png")


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
    _summarize(folder, task, metrics)


def _summarize(folder: Path, task: Task, metrics: dict[str, Any]) -> None:
    """A short table, without errors and totals, and what to try next."""
    shown = {k: v for k, v in metrics.items() if not k.endswith(("_se", "_of"))}
    width = max(map(len, shown))
    print()
    for name, value in shown.items():
        print(
            f"  {name:<{width}} {value:.4f}"
            if isinstance(value, float)
            else f"  {name:<{width}} {value}"
        )
    pictures = ", ".join(sorted(path.name for path in folder.glob("*.png")))
    print(f"\nPictures in {folder}: {pictures}. Next:")
    for line in task.next_commands(folder):
        print(f"  {line}")

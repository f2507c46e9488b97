"""`train --minutes`: the number of steps that fit, and the deadline of the command."""

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from openunite import clock
from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.planning.cost import num_parameters
from openunite.planning.plan import fit_to_memory, samples_at_once
from openunite.progress import say
from openunite.runs import Run
from openunite.task import Data, Options, Task, get_task
from openunite.training.build import build_models, build_objective
from openunite.training.config import RunConfig, load_config, save_config
from openunite.training.deadline import MIN_STEPS, Deadline
from openunite.training.device import choose_device
from openunite.training.loader import TrainingData
from openunite.training.optim import build_optimizers
from openunite.training.pace import Pace
from openunite.training.sizes import SIZES


def timed(
    config: RunConfig,
    options: Options,
    folder: Path,
    task: Task,
    data: Data,
    state: PartialState,
) -> tuple[RunConfig, Deadline | None]:
    """The settings with the number of steps for --minutes, and the deadline; None without one.

    Times are measured at the first start of a run. The main process decides for all.
    """
    if options.minutes is None:
        return config, None
    result: list[tuple[RunConfig, float]] = [(config, 0.0)]
    if state.is_main_process:
        saved = folder / "config.yaml"
        known = load_config(saved) if saved.is_file() else None
        after = 0.0 if Run(folder).is_finished else task.finish_seconds(config, data)
        taken = TimeTaken(clock.now() - clock.began(), after)
        fitted = fit_to_minutes(config, options, data.train, known, state.num_processes, taken)
        result[0] = fitted, after
    broadcast_object_list(result)
    config, after = result[0]
    if config.pace is None:  # a run of a version that had no deadlines
        return config, None
    deadline = Deadline(60.0 * config.pace.minutes, after, clock.began())
    if state.is_main_process:
        deadline.record = partial(save_config, path=folder / "config.yaml")
    return config, deadline


@dataclass(frozen=True)
class TimeTaken:
    """Seconds of a command besides training steps: until they begin, and after the last one."""

    before: float = 0.0
    after: float = 0.0


def fit_to_minutes(
    config: RunConfig,
    options: Options,
    data: TrainingData,
    known: RunConfig | None,
    processes: int = 1,
    taken: TimeTaken = TimeTaken(),
) -> RunConfig:
    """A copy of `config` with as many steps as fit into --minutes, by timing a few trial steps.

    On a GPU the micro-batch size is chosen to fit into its memory. `known` are the settings of the
    first start of this run, if there was one; their plans are kept.
    """
    if options.minutes is None:
        return config
    device = choose_device()
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).total_memory
        config = fit_to_memory(config, processes, size)
    short = _in_short(config, processes)
    if known is None:
        steps = _first_steps(config, options.minutes, data, processes, taken, short)
        pace: Pace | None = Pace(options.minutes, ((0, steps),))
    else:
        steps, pace = known.steps, known.pace
        kept = f"{steps} steps" if pace is None else f"{pace.minutes:g} minutes ({steps} steps)"
        say(
            f"{short}: this run keeps the {kept} of its first start, whatever --minutes says now; "
            "for another length choose another --output"
        )
    every = max(50, (steps if pace is None else pace.planned) // 5)
    chosen = {text.partition("=")[0].strip() for text in options.set}
    own: dict[str, Any] = {"checkpoint_every": every, "preview_every": every}
    own = {k: v for k, v in own.items() if k not in chosen}
    return replace(config, steps=steps, pace=pace, **own)


def _first_steps(
    config: RunConfig,
    minutes: float,
    data: TrainingData,
    processes: int,
    taken: TimeTaken,
    short: str,
) -> int:
    """The number of steps that fit at the speed of a few trial steps, and a line about them."""
    seconds, around = step_seconds(config, data, processes), taken.before + taken.after
    steps = max(MIN_STEPS, int((60.0 * minutes - taken.before - taken.after) / seconds))
    say(
        f"{short}: {steps} steps, about {(steps * seconds + around) / 60.0:.1f} minutes "
        f"({seconds:.3f} s per step, {taken.before:.0f} s before and {taken.after:.0f} s after "
        f"training), planned anew on the way; every sample is seen "
        f"{steps * config.batch_size / len(data):.0f} times"
    )
    if expectation := get_task(config.modality).expectation:
        say(expectation)
    return steps


def _in_short(config: RunConfig, processes: int) -> str:
    """A short text with the sizes of data, model and batch."""
    model, looks = config.model, get_task(config.modality).describe(config)
    shape = (model.num_registers, model.latent_channels)
    named = [name for name, size in SIZES.items() if size.model(*shape) == model]
    return (
        f"{looks}, model {named[0] if named else f'{model.width} wide, {model.depth} deep'} "
        f"({num_parameters(config):,} parameters), batch {config.batch_size}, "
        f"{samples_at_once(config, processes)} at a time"
    )


def step_seconds(
    config: RunConfig, data: TrainingData, processes: int = 1, trials: int = 4
) -> float:
    """Seconds per optimizer step on this machine, for one of `processes` processes."""
    device = choose_device()
    share = math.ceil(config.batch_size / processes)
    micro = min(len(data), config.micro_batch_size or share)
    encoder, decoder = (model.to(device) for model in build_models(config))
    objective = build_objective(config, encoder, decoder)
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizers = build_optimizers(model, config.optimizer).values()

    def attempt(batch: Batch, step: int) -> float:
        started = clock.now()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            random = SlotRandom(0, step, torch.arange(micro, device=device))
            for term in objective.terms(batch, config.steps, random):
                term.value.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock.now() - started

    chosen, best = trial_rows(data, micro), []
    for rows in chosen:
        batch = data.batch(rows).to(device)
        best.append(min(attempt(batch, step) for step in range(max(2, trials // len(chosen)))))
    return sum(best) / len(best) * share / micro


def trial_rows(data: TrainingData, count: int, batches: int = 3) -> list[list[int]]:
    """Indices of representative batches: evenly spaced ones, because sources are often sorted.

    If samples differ in size, each batch has samples of similar size, as in training: one batch of
    small, one of medium and one of large samples.
    """
    if data.sizes is None:
        return [np.linspace(0, len(data) - 1, count).round().astype(int).tolist()]
    order = np.argsort(data.sizes, kind="stable")
    starts = (len(order) - count) * (np.arange(batches) + 0.5) / batches
    return [order[start : start + count].tolist() for start in starts.round().astype(int)]

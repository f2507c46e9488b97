"""Resolve the arguments of `train` into a `RunConfig`."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openunite.batch import Batch
from openunite.catalog import get_recipe, get_spec
from openunite.flow.random import SlotRandom
from openunite.modality import get_modality
from openunite.planning.cost import num_parameters
from openunite.planning.plan import fit_to_memory, samples_at_once
from openunite.progress import say
from openunite.settings import assign, missing_fields
from openunite.task import Options, get_task
from openunite.training.build import build_models, build_objective
from openunite.training.config import MEMORY, RunConfig, load_config
from openunite.training.device import choose_device
from openunite.training.loader import TrainingData
from openunite.training.optim import build_optimizers
from openunite.training.sizes import SIZES
from openunite.verbs.conditions import read_condition

MIN_STEPS = 100  # fewer steps teach nothing


def configure(config: RunConfig, options: Options, data: Any = None) -> RunConfig:
    """The settings of a recipe, adapted to the data and the machine, then changed by the options.

    `data` is a path or a name, or data in memory; None means the data that `config` names. The
    option `minutes` is not applied here, see `fit_to_minutes`. Raises ValueError for options that
    do not fit.
    """
    if data is not None:
        source = str(data) if isinstance(data, str | Path) else MEMORY
        config = replace(config, data=replace(config.data, source=source))
    if not config.data.source:
        sources = get_task(config.modality).sources
        raise ValueError(f"recipe {config.recipe} needs --data: {sources}")
    _check(config, options)
    # Settings of the modality come first, because others follow from some of them.
    schemas = {"modality_config": get_spec(config.modality).load("modality").Settings}
    early = [text for text in options.set if text.startswith("modality_config.")]
    late = [text for text in options.set if text not in early]
    task, source = get_task(config.modality), config.data.source if data is None else data
    config = task.configure(config, options, source)
    if early:
        config = task.follow(config, assign(config, early, schemas))
    config = assign(_with_options(config, options), late, schemas)
    if not missing_fields(schemas["modality_config"], config.modality_config):
        get_modality(config.modality, config.modality_config)  # checks them before data are read
    return config


def base_config(recipe: str | Path | RunConfig) -> tuple[RunConfig, bool]:
    """The settings of a recipe or a config.yaml, and whether they come from a recipe."""
    if isinstance(recipe, RunConfig):
        return recipe, False
    if isinstance(recipe, Path) or recipe.endswith((".yaml", ".yml")):
        return load_config(Path(recipe)), False
    return get_recipe(recipe)(), True


def _check(config: RunConfig, options: Options) -> None:
    """Raise ValueError for options that exclude each other or belong to another modality."""
    if options.minutes is not None and options.steps is not None:
        raise ValueError("give --minutes or --steps, not both")
    if options.minutes is not None and not options.minutes > 0.0:
        raise ValueError(f"--minutes must be more than 0, got {options.minutes}")
    task = get_task(config.modality)
    for name in ("image_size", "patch_size", "max_atoms"):
        if getattr(options, name) is not None and name not in task.train_options:
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} is not for {task.things}, on which recipe {config.recipe} trains; "
                "leave it out"
            )


def _with_options(config: RunConfig, options: Options) -> RunConfig:
    """A copy of `config` with the options that set a single field."""
    names = ("steps", "batch_size", "sharding", "seed", "init_from")
    given = {name: getattr(options, name) for name in names} | {"compile": options.compile or None}
    if options.condition:
        given["conditions"] = dict(map(read_condition, options.condition))
    if options.max_bad_share is not None:
        given["data"] = replace(config.data, max_bad_share=options.max_bad_share)
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def fit_to_minutes(
    config: RunConfig,
    options: Options,
    data: TrainingData,
    known_steps: int | None,
    processes: int = 1,
) -> RunConfig:
    """A copy of `config` with as many steps as fit into --minutes, by timing a few trial steps.

    On a GPU the micro-batch size is chosen to fit into its memory. `known_steps` is the number of
    steps from the first start of this run, if there was one; it is kept.
    """
    if options.minutes is None:
        return config
    device, steps = choose_device(), known_steps
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).total_memory
        config = fit_to_memory(config, processes, size)
    if steps is None:
        seconds = step_seconds(config, data, processes)
        steps = max(MIN_STEPS, int(60.0 * options.minutes / seconds))
        about = steps * seconds / 60.0
        found = f"{steps} steps, about {about:.1f} minutes ({seconds:.3f} s per step)"
    else:
        found = (
            f"this run keeps the {steps} steps of its first start, whatever --minutes says now; "
            "for another length choose another --output"
        )
    say(f"{_in_short(config, processes)}: {found}")
    every = max(50, steps // 5)
    chosen = {text.partition("=")[0].strip() for text in options.set}
    own: dict[str, Any] = {"checkpoint_every": every, "preview_every": every}
    return replace(config, steps=steps, **{k: v for k, v in own.items() if k not in chosen})


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
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            random = SlotRandom(0, step, torch.arange(micro, device=device))
            for term in objective.terms(batch, config.steps, random):
                term.value.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

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

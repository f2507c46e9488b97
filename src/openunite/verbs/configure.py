"""From the options of `train` to a resolved `RunConfig`; sizes are chosen here."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openunite.commands import Train
from openunite.data.images.look import ImageSummary, inspect_images
from openunite.flow.random import SlotRandom
from openunite.modality import Batch, get_modality
from openunite.planning.cost import num_parameters
from openunite.planning.plan import fit_to_memory, samples_at_once
from openunite.recipes import RECIPES
from openunite.training.build import build_models, build_objective
from openunite.training.config import ModelConfig, RunConfig, load_config
from openunite.training.device import choose_device
from openunite.training.loader import TrainingData
from openunite.training.optim import build_optimizers
from openunite.training.sizes import SIZES, get_size

MIN_STEPS = 100  # fewer teach nothing


def configure(command: Train) -> RunConfig:
    """The recipe or config file, then what the data and the machine suggest, then the options.

    What --minutes comes to is not in it: see `fit_to_minutes`.
    """
    config = _base(command)
    if command.data is not None:
        config = replace(config, data=replace(config.data, source=command.data))
    if not config.data.source:
        raise ValueError(f"recipe {config.recipe} needs --data: a folder, .npz, parquet or hub id")
    if config.recipe == "images" and command.config is None:
        config = _fit_to_data(config, inspect_images(config.data.source), command)
    if command.minutes is not None and command.steps is not None:
        raise ValueError("give --minutes or --steps, not both")
    if command.minutes is not None and command.minutes <= 0.0:
        raise ValueError(f"--minutes must be more than 0, got {command.minutes}")
    if config.modality != "image":
        _refuse_image_options(config, command)
        return _with_options(config, command)
    if command.max_atoms is not None:
        raise ValueError("--max-atoms is for molecules and crystals, not for images; leave it out")
    config = _with_options(config, command)
    get_modality(config.modality, config.modality_config)  # refuses a bad size before data are read
    return config


def _refuse_image_options(config: RunConfig, command: Train) -> None:
    for name in ("image_size", "patch_size", "channels", "flip", "registers"):
        if getattr(command, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} is for images, recipe {config.recipe} trains on {config.modality}s; "
                "leave it out"
            )


def _base(command: Train) -> RunConfig:
    if bool(command.recipe) == bool(command.config):
        raise ValueError(f"name one recipe ({', '.join(RECIPES)}) or pass --config FILE")
    if command.config is not None:
        return load_config(Path(command.config))
    if command.recipe not in RECIPES:
        raise ValueError(
            f"unknown recipe {command.recipe!r}, expected one of {', '.join(RECIPES)}; for your "
            "own images: openunite train images --data FOLDER"
        )
    return RECIPES[command.recipe]()


def _fit_to_data(config: RunConfig, summary: ImageSummary, command: Train) -> RunConfig:
    """Image size, patch and model size from a look at the data and the machine.

    On a CPU images are brought to at most 32 pixels (64 from an hour on), on a GPU to at most
    128; patches are an eighth of the side, so there are about 64 of them.
    """
    gpu, minutes = choose_device().type == "cuda", command.minutes or 30.0
    largest = 128 if gpu else 64 if minutes >= 60 else 32
    side = command.image_size or max(8, min(largest, summary.height, summary.width))
    patch = command.patch_size or max(1, side // 8)
    size = command.size or (("S" if minutes >= 60 else "tiny") if gpu else "nano")
    channels = command.channels or summary.channels
    tokens = math.ceil(side / patch) ** 2
    image = {**config.modality_config, "height": side, "width": side, "channels": channels}
    return replace(
        config,
        modality_config={**image, "patch_size": patch},
        model=get_size(size).model(command.registers or tokens, command.latent_channels or 16),
        batch_size=256 if gpu else 32,
        precision="bf16" if gpu else "no",
        num_classes=summary.num_classes,
    )


def _with_options(config: RunConfig, command: Train) -> RunConfig:
    """Options given by hand win over everything."""
    image = dict(config.modality_config)
    if command.image_size is not None:
        image |= {"height": command.image_size, "width": command.image_size}
    if command.max_atoms is not None:
        image.pop("max_atoms", None)  # it follows from the data now
    image |= _given(patch_size=command.patch_size, channels=command.channels, flip=command.flip)
    config = replace(
        config,
        modality_config=image,
        model=_model(config, command, image),
        objective=replace(
            config.objective,
            **_given(flow_draws=command.flow_draws, flow_weight=command.flow_weight),
        ),
        data=replace(
            config.data,
            **_given(
                max_bad_share=command.max_bad_share,
                max_atoms=command.max_atoms,
                workers=command.workers,
            ),
        ),
        sampling=replace(config.sampling, **_given(guidance_scale=command.guidance_scale)),
    )
    if command.learning_rate is not None:
        ratio = config.optimizer.adamw_learning_rate / config.optimizer.muon_learning_rate
        rates = replace(
            config.optimizer,
            muon_learning_rate=command.learning_rate,
            adamw_learning_rate=command.learning_rate * ratio,
        )
        config = replace(config, optimizer=rates)
    names = ["steps", "batch_size", "micro_batch_size", "precision", "sharding"]
    names += ["seed", "init_from", "checkpoint_every", "preview_every"]
    given = {name: getattr(command, name) for name in names} | {"compile": command.compile or None}
    config = replace(config, **_given(**given))
    return replace(config, trackers=command.trackers) if command.trackers else config


def _model(config: RunConfig, command: Train, image: dict[str, Any]) -> ModelConfig:
    """The model by --size, its registers following the patches unless they are set."""
    registers = command.registers or config.model.num_registers
    if command.registers is None and config.modality == "image":
        patch, shape = image["patch_size"], ("height", "width", "patch_size")
        if any(image[name] != config.modality_config[name] for name in shape):
            registers = math.ceil(image["height"] / patch) * math.ceil(image["width"] / patch)
    channels = command.latent_channels or config.model.latent_channels
    if command.size is not None:
        return get_size(command.size).model(registers, channels)
    return replace(config.model, num_registers=registers, latent_channels=channels)


def fit_to_minutes(
    config: RunConfig,
    command: Train,
    data: TrainingData,
    known_steps: int | None,
    processes: int = 1,
) -> RunConfig:
    """As many steps as fit into --minutes, by the clock of a few trial steps on this machine.

    On a GPU, as many samples at a time as should fit into its memory. `known_steps` is what it came
    to when this run was first started.
    """
    if command.minutes is None:
        return config
    device, steps = choose_device(), known_steps
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(device).total_memory
        config = fit_to_memory(config, processes, size)
    if steps is None:
        seconds = step_seconds(config, data, processes)
        steps = max(MIN_STEPS, int(60.0 * command.minutes / seconds))
        about = steps * seconds / 60.0
        found = f"{steps} steps, about {about:.1f} minutes ({seconds:.3f} s per step)"
    else:
        found = (
            f"this run keeps the {steps} steps of its first start, whatever --minutes says now; "
            "for another length choose another --output"
        )
    print(f"{_in_short(config, processes)}: {found}")
    every = max(50, steps // 5)
    return replace(
        config,
        steps=steps,
        checkpoint_every=command.checkpoint_every or every,
        preview_every=every if command.preview_every is None else command.preview_every,
    )


def _in_short(config: RunConfig, processes: int) -> str:
    """Sizes of data, model and batch."""
    data, model = config.modality_config, config.model
    looks = f"up to {data.get('max_atoms')} atoms"
    if config.modality == "image":
        looks = f"{data['height']} x {data['width']} pixels, patch {data['patch_size']}"
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
    """Seconds per optimizer step on this machine, of a process that has its share of a batch."""
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
        batch = {name: value.to(device) for name, value in data.batch(rows).items()}
        best.append(min(attempt(batch, step) for step in range(max(2, trials // len(chosen)))))
    return sum(best) / len(best) * share / micro


def trial_rows(data: TrainingData, count: int, batches: int = 3) -> list[list[int]]:
    """Batches that stand for all: of evenly spaced rows, for sources are often sorted.

    Where samples differ in size, each is of about one size, as in training: small, medium, large.
    """
    if data.sizes is None:
        return [np.linspace(0, len(data) - 1, count).round().astype(int).tolist()]
    order = np.argsort(data.sizes, kind="stable")
    starts = (len(order) - count) * (np.arange(batches) + 0.5) / batches
    return [order[start : start + count].tolist() for start in starts.round().astype(int)]


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}

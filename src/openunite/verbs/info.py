"""`openunite info` and `openunite convert`: looking at models without training them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from openunite.commands import Convert, Info
from openunite.convert import convert as convert_checkpoint
from openunite.loading import load_pipeline
from openunite.planning.plan import plan
from openunite.recipes import RECIPES
from openunite.training.build import build_models
from openunite.training.checkpoint import CheckpointError, list_checkpoints, verify
from openunite.training.config import RunConfig, load_config, to_dict
from openunite.training.sizes import get_size


def info(command: Info) -> None:
    """Print what a recipe, a run, or a pipeline is, or what training it would need."""
    if bool(command.source) == bool(command.recipe):
        raise ValueError("name one SOURCE or --recipe: openunite info imagenet256_b")
    if command.gpus is None and (command.size or command.batch_size or command.flow_draws):
        raise ValueError("--size, --batch-size and --flow-draws are of a plan; add --gpus N")
    source = command.recipe or command.source
    path = Path(source)
    if command.gpus is not None:
        print(plan(_plan_config(source, command), command.gpus, command.gpu, command.mfu))
    elif source in RECIPES:
        recipe = RECIPES[source]
        print(f"{(recipe.__doc__ or '').strip()}\n")
        describe_config(recipe())
    elif (path / "config.yaml").is_file():
        describe_config(load_config(path / "config.yaml"))
        _describe_run(path)
    else:
        pipeline = load_pipeline(source)
        for name in ("encoder", "decoder"):
            model = getattr(pipeline, name)
            _print_table(name, {k: v for k, v in model.config.items() if not k.startswith("_")})
            print(f"  parameters                 {_count(model):,}\n")
        _print_table("sampling", {k: v for k, v in pipeline.config.items() if k[0] != "_"})


def _plan_config(source: str, command: Info) -> RunConfig:
    """Of a recipe or a run, with what the options change. ValueError for anything else."""
    path = Path(source) / "config.yaml"
    if source not in RECIPES and not path.is_file():
        raise ValueError(f"{source} is no recipe ({', '.join(RECIPES)}) and no run to plan for")
    config = RECIPES[source]() if source in RECIPES else load_config(path)
    settings = config.modality_config
    if config.modality != "image" and "max_atoms" not in settings:
        raise ValueError(f"the sizes of {source} follow from its data; plan for a run of it")
    if config.modality == "crystal" and "elements" not in settings:  # H to Pu: none is left out
        config = replace(config, modality_config=settings | {"elements": list(range(1, 95))})
    model, objective = config.model, config.objective
    if command.size is not None:
        model = get_size(command.size).model(model.num_registers, model.latent_channels)
    if command.flow_draws is not None:
        objective = replace(objective, flow_draws=command.flow_draws)
    batch_size = command.batch_size or config.batch_size
    return replace(config, model=model, objective=objective, batch_size=batch_size)


def describe_config(config: RunConfig) -> None:
    """Settings and parameter counts, from models that allocate nothing."""
    print(yaml.safe_dump(to_dict(config), sort_keys=False))
    if config.modality != "image" and not {"elements", "max_atoms"} <= set(config.modality_config):
        print("elements, max_atoms and with them the parameters follow from the data")
        return
    with torch.device("meta"):
        encoder, decoder = build_models(config)
    print(f"generative encoder  {_count(encoder):>13,} parameters")
    print(f"decoder             {_count(decoder):>13,} parameters")
    print(f"both                {_count(encoder) + _count(decoder):>13,} parameters")


def convert(command: Convert) -> None:
    """Convert and print what became of every tensor."""
    report = convert_checkpoint(
        Path(command.source),
        Path(command.output),
        weights=command.weights,
        context_start=command.context_start,
        decoder_heads=command.decoder_heads,
    )
    print(report.summary())


def _describe_run(run: Path) -> None:
    for path in list_checkpoints(run / "checkpoints"):
        try:
            verify(path)
            print(f"checkpoint {path.name}: sound")
        except CheckpointError as error:
            print(f"checkpoint {path.name}: {error}")
    if (run / "metrics.json").is_file():
        _print_table("metrics", json.loads((run / "metrics.json").read_text()))


def _print_table(title: str, values: dict[str, Any]) -> None:
    print(title)
    for key, value in values.items():
        print(f"  {key:<26} {value}")


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

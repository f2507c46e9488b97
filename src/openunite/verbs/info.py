"""`openunite info`: describe recipes, runs and models, and plan training runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from openunite.catalog import get_recipe, get_spec, recipes
from openunite.commands import Info
from openunite.planning.cost import meta_models
from openunite.planning.plan import plan
from openunite.progress import say
from openunite.runs import Run, load_pipeline
from openunite.settings import missing_fields
from openunite.task import get_task
from openunite.texts import printable
from openunite.training.checkpoint import CheckpointError, verify
from openunite.training.config import RunConfig, load_config, to_dict
from openunite.training.sizes import get_size
from openunite.verbs.conditions import describe_columns, describe_conditions, unsettled
from openunite.weights import packaged_folder

_MOST_SHOWN = 20  # entries of a list, and tens of characters of a text


def info(command: Info) -> None:
    """Describe a recipe, a run or a pipeline, or print the resources its training would need."""
    if bool(command.source) == bool(command.recipe):
        raise ValueError("name one SOURCE or --recipe: openunite info imagenet256_b")
    if command.gpus is None and (command.size or command.batch_size or command.flow_draws):
        raise ValueError("--size, --batch-size and --flow-draws change a plan; add --gpus N")
    source = command.recipe or command.source
    path = Path(source)
    if command.gpus is not None:
        say(plan(_plan_config(source, command), command.gpus, command.gpu, command.mfu))
    elif source in recipes():
        recipe = get_recipe(source)
        say(f"{(recipe.__doc__ or '').strip()}\n")
        describe_config(recipe())
        if source == command.source and packaged_folder(source) is not None:
            say("\nThe package also holds a trained pipeline of this name:\n")
            _describe_pipeline(source)
    elif (path / "config.yaml").is_file():
        describe_config(Run(path).config)
        _describe_run(Run(path))
    else:
        _describe_pipeline(source)


def _plan_config(source: str, command: Info) -> RunConfig:
    """The settings of a recipe or a run, changed by the options. Raises ValueError otherwise."""
    path = Path(source) / "config.yaml"
    if source not in recipes() and not path.is_file():
        raise ValueError(f"{source} is no recipe ({', '.join(recipes())}) and no run to plan for")
    config = get_recipe(source)() if source in recipes() else load_config(path)
    config = get_task(config.modality).plan_for(config)
    if missing := _missing(config):
        raise ValueError(
            f"{', '.join(missing)} of {source} follow from its data; plan for a run of it"
        )
    model, objective = config.model, config.objective
    if command.size is not None:
        model = get_size(command.size).model(model.num_registers, model.latent_channels)
    if command.flow_draws is not None:
        objective = replace(objective, flow_draws=command.flow_draws)
    batch_size = command.batch_size or config.batch_size
    return replace(config, model=model, objective=objective, batch_size=batch_size)


def _missing(config: RunConfig) -> list[str]:
    """Settings of the modality and conditions that are only known from the data."""
    settings = get_spec(config.modality).load("modality").Settings
    conditions = [f"condition {name}" for name in unsettled(config)]
    return missing_fields(settings, config.modality_config) + conditions


def describe_config(config: RunConfig) -> None:
    """Print settings and parameter counts, without allocating the models."""
    say(yaml.safe_dump(_shortened(to_dict(config)), sort_keys=False))
    if missing := _missing(config):
        say(f"{', '.join(missing)} and with them the parameters follow from the data")
        return
    encoder, decoder = meta_models(config)
    say(f"generative encoder  {_count(encoder):>13,} parameters")
    say(f"decoder             {_count(decoder):>13,} parameters")
    say(f"both                {_count(encoder) + _count(decoder):>13,} parameters")
    for line in describe_conditions(config):
        say(printable(line))


def _shortened(value: Any) -> Any:
    """The same settings without the rest of long texts and lists."""
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list) and len(value) > _MOST_SHOWN:
        return [*value[:_MOST_SHOWN], f"... {len(value) - _MOST_SHOWN} more"]
    if isinstance(value, str) and len(value) > 10 * _MOST_SHOWN:
        return f"{value[: 10 * _MOST_SHOWN]} ... ({len(value)} characters)"
    return value


def _describe_run(run: Run) -> None:
    """Print the data, the state of each checkpoint, and the metrics of a run."""
    if record := run.record:
        say(
            f"data: {record.get('name')}, {record.get('train_size')} to train on, "
            f"{record.get('test_size')} held out, {len(record.get('skipped', ()))} skipped"
        )
    for line in describe_columns(record.get("columns", {})):
        say(printable(f"  {line}"))
    for note in record.get("notes", ()):
        say(printable(f"  note: {note}"))
    for path in run.checkpoints:
        try:
            verify(path)
            say(f"checkpoint {path.name}: sound")
        except CheckpointError as error:
            say(f"checkpoint {path.name}: {error}")
    if metrics := run.metrics:
        _print_table("metrics", metrics)


def _describe_pipeline(source: str) -> None:
    """Print the settings and sizes of a pipeline."""
    pipeline = load_pipeline(source)
    for name in ("encoder", "decoder"):
        model = getattr(pipeline, name)
        _print_table(name, {k: v for k, v in model.config.items() if not k.startswith("_")})
        say(f"  parameters                 {_count(model):,}\n")
    _print_table("sampling", {k: v for k, v in pipeline.config.items() if k[0] != "_"})


def _print_table(title: str, values: dict[str, Any]) -> None:
    say(title)
    for key, value in values.items():
        say(f"  {key:<26} {value}")


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

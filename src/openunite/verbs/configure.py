"""Resolve the arguments of `train` into a `RunConfig`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from openunite.catalog import get_recipe, get_spec
from openunite.modality import get_modality
from openunite.settings import assign, missing_fields
from openunite.task import Options, get_task
from openunite.training.config import MEMORY, RunConfig, load_config
from openunite.verbs.conditions import read_condition


def configure(config: RunConfig, options: Options, data: Any = None) -> RunConfig:
    """The settings of a recipe, adapted to the data and the machine, then changed by the options.

    `data` is a path or a name, or data in memory; None means the data that `config` names. The
    option `minutes` is not applied here, see `verbs/minutes.py`. Raises ValueError for options that
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
    if options.steps or options.minutes:
        config = replace(config, pace=None)
    if options.condition:
        given["conditions"] = dict(map(read_condition, options.condition))
    if options.max_bad_share is not None:
        given["data"] = replace(config.data, max_bad_share=options.max_bad_share)
    return replace(config, **{name: value for name, value in given.items() if value is not None})

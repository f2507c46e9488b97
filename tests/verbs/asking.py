"""Settings as the tests ask for them: what `train` makes of a recipe and options."""

from typing import Any

from openunite.task import Options
from openunite.training.config import RunConfig
from openunite.verbs.configure import base_config, configure


def settings(recipe: str, data: Any = None, **options: Any) -> RunConfig:
    """The settings of a recipe with data and options."""
    base, fresh = base_config(recipe)
    return configure(base, Options(fresh=fresh, **options), data)

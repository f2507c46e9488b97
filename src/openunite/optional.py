"""Imports of optional dependencies, made only when a function needs them."""

from importlib import import_module
from typing import Any


def optional(module: str, extra: str, purpose: str = "this metric") -> Any:
    """Import a module; if it is missing, raise an ImportError that names the extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.partition('.')[0]}: pip install 'openunite[{extra}]'"
        ) from error

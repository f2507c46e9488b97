"""Packages that come with an extra, imported only when a function needs them."""

from importlib import import_module
from typing import Any


def optional(module: str, extra: str, purpose: str = "this metric") -> Any:
    """The module, or an ImportError that says what needs it and names the extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.partition('.')[0]}: pip install 'openunite[{extra}]'"
        ) from error

"""Imports of optional dependencies, made only when a function needs them, and their data files."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def optional(module: str, extra: str, purpose: str = "this metric") -> Any:
    """Import a module; if it is missing, raise an ImportError that names the extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.partition('.')[0]}: pip install 'openunite[{extra}]'"
        ) from error


def file_of(module: str, name: str, extra: str, package: str) -> Path:
    """A file inside an installed package, found without importing it.

    ImportError names the extra to install if the package or the file is missing.
    """
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise ImportError(f"this needs {name} of {package}: pip install 'openunite[{extra}]'")

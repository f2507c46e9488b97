"""What the verbs check before they spend work: numbers, inputs, and where to write."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from openunite.texts import printable


def at_least_one(option: str, value: int) -> None:
    """ValueError for a number below 1."""
    if value < 1:
        raise ValueError(f"{option} must be at least 1, got {value}")


def find_sources(names: Sequence[str]) -> None:
    """FileNotFoundError for an input that is missing, or a folder that is empty."""
    for path in map(Path, names):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; expected a file or a folder")
        if path.is_dir() and not any(path.iterdir()):
            raise FileNotFoundError(f"no files in {path}; expected a folder that holds some")


def claim(output: str, suffixes: Sequence[str]) -> Path:
    """Where to write, once it is known that it can be written; "" stands for a folder."""
    path = Path(output)
    if path.suffix.lower() not in suffixes:
        words = [suffix or "have no suffix (a folder)" for suffix in suffixes]
        raise ValueError(f"--output must end in {' or '.join(words)}, got {output}")
    folder = path.parent if path.suffix else path
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write into {folder}; choose another --output")
    return path


def tell(name: str, reason: str) -> None:
    """Name on stderr what is left out."""
    print(printable(f"skipped {name}: {reason}"), file=sys.stderr)

"""Arguments that several commands take (model, data, output), checked before any work."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from openunite.pipelines.base import UnitePipeline
from openunite.progress import say
from openunite.runs import Run, load_pipeline
from openunite.task import Task
from openunite.texts import printable
from openunite.training.device import choose_device


def find_sources(names: Sequence[str]) -> None:
    """Raise FileNotFoundError for a missing input or an empty folder."""
    for path in map(Path, names):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; expected a file or a folder")
        if path.is_dir() and not any(path.iterdir()):
            raise FileNotFoundError(f"no files in {path}; expected a folder that holds some")


def claim(output: str, suffixes: Sequence[str]) -> Path:
    """The path to write to, after checks of its suffix ("": a folder) and its permissions.

    Raises ValueError for another suffix and PermissionError if the folder cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() not in suffixes:
        words = [suffix or "have no suffix (a folder)" for suffix in suffixes]
        raise ValueError(f"--output must end in {' or '.join(words)}, got {output}")
    folder = path.parent if path.suffix else path
    if path.suffix and path.is_dir():
        raise ValueError(f"{path} is a folder, expected a file; choose another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{folder} cannot be a folder, because of a file; choose another --output"
        raise ValueError(message) from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"cannot write into {folder}; choose another --output")
    return path


def tell(name: str, reason: str) -> None:
    """Print on stderr what is skipped, and why."""
    say(printable(f"skipped {name}: {reason}"), err=True)


Source = str | Path | Run | UnitePipeline


def open_pipeline(source: Source) -> UnitePipeline:
    """The pipeline of a run, a folder or a hub id, on the best device; a pipeline stays as it is.

    Raises FileNotFoundError if there is none.
    """
    if isinstance(source, UnitePipeline):
        return source
    pipeline = load_pipeline(source.folder if isinstance(source, Run) else source)
    return pipeline.to(choose_device())


def read_items(task: Task, pipeline: UnitePipeline, data: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, data point) from files and folders, or from a list in memory."""
    many = isinstance(data, Iterable) or hasattr(data, "__getitem__")  # a data set has no __iter__
    items = data if many and not isinstance(data, str) and not task.is_item(data) else [data]
    if isinstance(items, Sequence) and items and all(isinstance(x, str | Path) for x in items):
        sources = list(map(str, items))
        find_sources(sources)
        yield from task.read(pipeline, sources, tell)
        return
    number = -1
    for number, item in enumerate(items):
        yield f"item {number}", task.item(item)
    if number < 0:
        raise ValueError(f"expected some {task.things}, got none")

"""Outputs of many samples: written as they are drawn, in little memory, and gone on with."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openunite.evaluation.shards import ProcessGroup, Shards, identity
from openunite.files import read_json, write_json
from openunite.progress import bar
from openunite.task import Task, in_batches

Draw = Callable[[Sequence[int]], list[Any]]  # the samples with these numbers
SHOWN = 256  # samples in a picture; nobody looks at more
_INDEX = ".samples.json"  # of a folder: what its files are samples of


@dataclass(frozen=True)
class Stored(Collection[Any]):
    """Samples that are on disk, a shard of them in memory at a time."""

    shards: Shards
    task: Task

    def __len__(self) -> int:
        return self.shards.count

    def __iter__(self) -> Iterator[Any]:
        for tensors in self.shards.read():
            yield from self.task.unpack(tensors)

    def __contains__(self, sample: object) -> bool:
        return any(each is sample for each in self)


@contextmanager
def stored_parts(
    path: Path, task: Task, count: int, batch_size: int, draw: Draw, settings: Mapping[str, Any]
) -> Iterator[Stored]:
    """All samples, from a hidden folder `.NAME.parts` beside the file.

    Parts that are there are not drawn again if `settings`, which name their folder, are the same;
    parts of other settings are deleted, and at the end all of them.
    """
    home = _home(path)
    folder = home / identity({**settings, "batch_size": batch_size})
    for other in home.glob("*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    shards = Shards(folder, count, batch_size)
    shards.make(lambda numbers: task.pack(draw(numbers)), ProcessGroup(), "sampling")
    yield Stored(shards, task)
    forget_parts(path)


def forget_parts(path: Path) -> None:
    """Delete what a stopped call left beside the file."""
    shutil.rmtree(_home(path), ignore_errors=True)


def _home(path: Path) -> Path:
    return path.with_name(f".{path.name}.parts")


def fill_folder(
    folder: Path, task: Task, count: int, batch_size: int, draw: Draw, settings: Mapping[str, Any]
) -> None:
    """A file for each sample; files that are there and sound are not drawn again.

    ValueError if the folder holds anything else than samples of the same settings up to `count`.
    """
    key = identity(settings)
    index, names = folder / _INDEX, [f"{i:06d}{task.file_suffix}" for i in range(count)]
    there = {file.name for file in folder.iterdir() if file.name[:1] != "."}
    if there and (not index.is_file() or read_json(index).get("settings") != key):
        raise ValueError(
            f"{folder} holds {len(there)} files, which are no samples of these settings; choose "
            "another --output"
        )
    if strangers := sorted(there - set(names)):
        raise ValueError(
            f"{folder} holds {strangers[0]} and {len(strangers) - 1} others beside the first "
            f"{count} samples; choose another --output, or ask for more samples"
        )
    write_json(index, {"settings": key})
    todo = [
        i for i in range(count) if names[i] not in there or not task.is_sound(folder / names[i])
    ]
    batches = list(in_batches(todo, batch_size))
    for batch in bar(batches, "sampling", unit="batch", disable=len(batches) < 2):
        for i, sample in zip(batch, draw(batch), strict=True):
            task.write_one(folder / names[i], sample)

"""Long work in shards: an interrupted job resumes, on one process or many.

A shard is one file with the results of fixed positions, so its content depends neither on the
number of processes nor on earlier interruptions. Processes share a folder and nothing else.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from openunite.progress import bar

Make = Callable[[range], Mapping[str, Tensor]]  # positions -> tensors with one row each


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank, the number of processes, and a barrier."""

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = lambda: None

    @property
    def is_main(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True)
class Shards:
    """`count` positions in files of `size` positions each below `folder`."""

    folder: Path
    count: int
    size: int

    def make(self, make: Make, group: ProcessGroup, words: str) -> "Shards":
        """Write the missing shards, a part in each process, and wait until all are written."""
        mine = range(group.rank, len(self), group.size)
        for number in bar(mine, desc=words, unit="batch", disable=None if group.is_main else True):
            if not self._is_complete(number):
                write_tensors(self.path(number), make(self.positions(number)))
        group.wait()
        return self

    def read(self) -> Iterator[dict[str, Tensor]]:
        """Yield all shards in order."""
        for number in range(len(self)):
            yield load_file(self.path(number))

    def positions(self, number: int) -> range:
        """Positions in shard `number`."""
        return range(number * self.size, min((number + 1) * self.size, self.count))

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def remove(self) -> None:
        """Delete the files, and the folder if it is empty then."""
        for number in range(len(self)):
            self.path(number).unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or another evaluation was faster
            self.folder.rmdir()

    def path(self, number: int) -> Path:
        """Path of shard `number`."""
        return self.folder / f"{number:06d}.safetensors"

    def _is_complete(self, number: int) -> bool:
        """True if the file exists, can be read and has the expected number of rows."""
        rows = len(self.positions(number))
        try:
            with safe_open(self.path(number), "pt") as file:
                names = file.keys()
                return all(file.get_slice(name).get_shape()[0] == rows for name in names)
        except (OSError, SafetensorError):
            return False


def identity(settings: Mapping[str, Any]) -> str:
    """A hash of the settings (12 hex characters), which names a folder of shards."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a file atomically, by way of a temporary file of this process."""
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        _save(plain, unfinished, metadata)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """Write the file, again if another evaluation that has finished removes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, path, metadata)
    except (SafetensorError, FileNotFoundError):
        if path.parent.exists():
            raise
        _save(tensors, path, metadata)

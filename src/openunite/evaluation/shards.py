"""Long work in shards: a killed job goes on where it stopped, on one process or many.

A shard is one file and holds the results of fixed positions, so its content depends neither on the
number of processes nor on what was done before. Processes share a folder, and nothing else.
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
from tqdm import tqdm

Make = Callable[[range], Mapping[str, Tensor]]  # positions -> tensors with one row for each


def _alone() -> None:
    return


@dataclass(frozen=True)
class Crew:
    """The processes at work: this one's number, how many there are, and how to wait for all."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = _alone

    @property
    def leads(self) -> bool:
        return self.rank == 0


@dataclass(frozen=True)
class Shards:
    """`count` positions in files of `size` below `folder`."""

    folder: Path
    count: int
    size: int

    def make(self, make: Make, crew: Crew, words: str) -> "Shards":
        """Write the shards that are not there yet, each process its part; wait for all of them."""
        mine = range(crew.rank, len(self), crew.world)
        bar = tqdm(mine, desc=words, unit="batch", disable=None if crew.leads else True)
        for number in bar:
            if not self._sound(number):
                write_tensors(self.path(number), make(self.positions(number)))
        crew.wait()
        return self

    def read(self) -> Iterator[dict[str, Tensor]]:
        """All shards in order."""
        for number in range(len(self)):
            yield load_file(self.path(number))

    def positions(self, number: int) -> range:
        """What shard `number` holds."""
        return range(number * self.size, min((number + 1) * self.size, self.count))

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def remove(self) -> None:
        """Delete the files, and the folder if nothing else is in it."""
        for number in range(len(self)):
            self.path(number).unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or another evaluation was faster
            self.folder.rmdir()

    def path(self, number: int) -> Path:
        """Where shard `number` is."""
        return self.folder / f"{number:06d}.safetensors"

    def _sound(self, number: int) -> bool:
        """There, whole, and with as many rows as it should have."""
        rows = len(self.positions(number))
        try:
            with safe_open(self.path(number), "pt") as file:
                names = file.keys()
                return all(file.get_slice(name).get_shape()[0] == rows for name in names)
        except (OSError, SafetensorError):
            return False


def identity(settings: Mapping[str, Any]) -> str:
    """Twelve characters that change with any of the settings: other work never mixes in."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Whole or not at all; the name of the unfinished file is this process's own."""
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        _save(plain, unfinished, metadata)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """Another evaluation may remove the folder at any moment, when it has done with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, path, metadata)
    except (SafetensorError, FileNotFoundError):
        if path.parent.exists():
            raise
        _save(tensors, path, metadata)

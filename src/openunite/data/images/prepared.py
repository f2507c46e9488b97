"""Open the tar shards that `openunite prepare` wrote by the index beside them.

Neither the index nor the arrays beside a shard are trusted: names must stay in the folder, and
every offset must lie in its shard.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openunite.data.images.columns import Fields, gather
from openunite.data.images.sources import Ints, LeftOut, Source, describe_copy
from openunite.data.images.tars import TarItems
from openunite.files import read_json
from openunite.settings import build

INDEX = "prepared.json"
FORMAT_VERSION = 1
_COLUMNS = {"offsets": "i", "lengths": "i", "names": "S", "labels": "i", "held_out": "b"}


@dataclass(frozen=True)
class Target:
    """The settings of a copy; `jpeg_quality` None stores PNG."""

    source: str
    num_items: int
    size: int
    channels: int
    jpeg_quality: int | None
    shard_size: int


@dataclass(frozen=True)
class Shard:
    """A finished tar file and its checksum. ValueError if its name leads out of the folder."""

    name: str
    bytes: int
    images: int
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+\.tar", self.name) or min(self.bytes, self.images) < 0:
            raise ValueError(f"expected a tar file in the folder, got {self}")


@dataclass(frozen=True)
class Index:
    """The contents of prepared.json; `skipped` has the name and the reason of each bad image."""

    format: int
    finished: bool
    target: Target
    copies: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    shards: tuple[Shard, ...] = ()


def read_index(folder: Path) -> Index:
    """prepared.json of a prepared folder. ValueError if it is damaged or of a newer format."""
    try:
        values = read_json(folder / INDEX)
        version = values.get("format")
        if not isinstance(version, int) or version <= FORMAT_VERSION:
            index: Index = build(Index, values)
            return index
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / INDEX} cannot be read; prepare the data again") from error
    raise ValueError(
        f"{folder} has format {version}, this openunite reads up to {FORMAT_VERSION}; upgrade"
    )


def read_prepared(folder: Path) -> Source:
    """The copies in a folder. ValueError if it is unfinished, or if a shard is damaged."""
    index = read_index(folder)
    if not index.finished:
        raise ValueError(
            f"{folder} is prepared in part only; run the same `openunite prepare` again to go on"
        )
    files = tuple(folder / shard.name for shard in index.shards)
    pairs = zip(files, index.shards, strict=True)
    parts = [_arrays(file, shard, len(index.class_names)) for file, shard in pairs]
    if not parts:
        raise ValueError(f"{folder} holds no images; prepare the data again")
    joined = {key: np.concatenate([part[key] for part, _ in parts]) for key in parts[0][0]}
    ranks: Ints = np.repeat(np.arange(len(files)), [len(part["offsets"]) for part, _ in parts])
    stamps = tuple(shard.sha256 for shard in index.shards)
    places = (joined["offsets"], joined["lengths"], joined["names"])
    target, bad = index.target, [name for name, _ in index.skipped]
    copy = describe_copy(target.size, target.size, target.channels, target.jpeg_quality)
    reason = "not usable when the copy was made"
    return Source(
        folder.resolve().name,
        TarItems(folder, files, stamps, ranks, *places),
        joined["labels"],
        index.class_names,
        joined["held_out"] if joined["held_out"].any() else None,
        digests=joined["digests"],
        copies=(*index.copies, copy),
        left_out=(LeftOut("image", len(bad), tuple(bad[:3]), reason),) if bad else (),
        notes=index.notes,
        columns=gather([row for _, rows in parts for row in rows]),
    )


def _arrays(
    file: Path, shard: Shard, num_classes: int
) -> tuple[dict[str, NDArray[Any]], list[Fields]]:
    """The arrays beside one shard, and the columns. ValueError if they or it are damaged."""
    if not file.is_file() or file.stat().st_size != shard.bytes:
        raise ValueError(
            f"{file} is missing or has another size than {shard.bytes} bytes; run the same "
            "`openunite prepare` again to mend it"
        )
    beside, count = file.with_suffix(".npz"), shard.images
    try:
        with np.load(beside, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in (*_COLUMNS, "digests")}
            rows = _rows(arrays.get("columns", "{}"), count)
    except Exception as error:  # a damaged file makes numpy raise many kinds
        raise _damaged(beside) from error
    kinds = all(found[key].dtype.kind == kind for key, kind in _COLUMNS.items())
    shapes = all(found[key].shape == (count,) for key in _COLUMNS)
    digests = found["digests"].dtype == np.uint8 and found["digests"].shape == (count, 32)
    if not (kinds and shapes and digests):
        raise _damaged(beside)
    starts, lengths, labels = found["offsets"], found["lengths"], found["labels"]
    inside = (starts >= 0) & (lengths > 0) & (lengths <= shard.bytes - starts)
    if not (inside & (labels >= 0) & (labels < max(1, num_classes))).all():
        raise _damaged(beside)
    return found, rows


def _rows(columns: Any, count: int) -> list[Fields]:
    """The columns of a shard, one row for each image; copies of older versions have none."""
    found = json.loads(str(columns))
    return [{name: values[i] for name, values in found.items()} for i in range(count)]


def _damaged(file: Path) -> ValueError:
    return ValueError(f"{file} is damaged; delete it and run the same `openunite prepare` again")

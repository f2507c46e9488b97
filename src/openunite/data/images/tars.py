"""Images in tar shards as webdataset has them, read by position: nothing is unpacked.

A sample is the members that share a name up to the first dot: one image, perhaps a `.cls` with its
class as a number. A shard whose name starts with test, val, valid or validation is held out. What
`openunite prepare` wrote has an index beside the shards; in other folders the headers of all
members are read once per start. Position i is a shard and a place in it, so a run resumes exactly.
"""

import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openunite.data.images.sources import (
    TEST_NAMES,
    Ints,
    Source,
    check_labels,
    describe_copy,
)

INDEX = "prepared.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class TarItems:
    """Item i is `lengths[i]` bytes at `offsets[i]` of file `files[shards[i]]`.

    `names` are the members' names as bytes, `stamps` one per file.
    """

    files: tuple[Path, ...]
    stamps: tuple[str, ...]
    shards: Ints
    offsets: Ints
    lengths: Ints
    names: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.offsets)

    def name(self, i: int) -> str:
        return f"{self.files[self.shards[i]].name}/{self.names[i].decode()}"

    def stamp(self, i: int) -> str:
        return self.stamps[self.shards[i]]

    def read(self, i: int) -> bytes:
        with self.files[self.shards[i]].open("rb") as file:
            file.seek(self.offsets[i])
            content = file.read(self.lengths[i])
        if len(content) < self.lengths[i]:
            raise OSError(f"{self.files[self.shards[i]]} ends too early")
        return content


def tar_files(folder: Path) -> list[Path]:
    """The tar shards in a folder."""
    return sorted(path for path in folder.glob("*.tar") if not path.name.startswith("."))


def read_tars(folder: Path, files: Sequence[Path]) -> Source:
    """Shards with or without an index. ValueError names the shard or the member that is wrong."""
    if (folder / INDEX).is_file():
        return _read_prepared(folder)
    members = [_members(file) for file in files]
    rows = [row for found in members for row in found]
    if not rows:
        raise ValueError(f"the tar files in {folder} hold no images")
    labeled = [label is not None for *_, label in rows]
    if any(labeled) and not all(labeled):
        name = rows[labeled.index(False)][0]
        raise ValueError(f"{name} in {folder} has no .cls member as others have; add or drop them")
    shards = np.repeat(np.arange(len(files)), [len(found) for found in members])
    names, offsets, lengths, classes = zip(*rows, strict=True)
    items = TarItems(
        tuple(files),
        tuple(_stamp(file) for file in files),
        shards,
        np.array(offsets, dtype=np.int64),
        np.array(lengths, dtype=np.int64),
        np.array([name.encode() for name in names]),
    )
    labels, class_names = np.zeros(len(rows), dtype=np.int64), tuple[str, ...]()
    if all(labeled):
        labels, class_names = check_labels(classes, len(rows), (), str(folder))
    test = np.array([re.split(r"[^a-z]", f.name.lower())[0] in TEST_NAMES for f in files])[shards]
    held_out = test if test.any() and not test.all() else None
    return Source(folder.name, items, labels, class_names, held_out, str(folder.resolve()))


def read_index(folder: Path) -> dict[str, Any]:
    """prepared.json of a prepared folder. ValueError if it is damaged or of a newer format."""
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        version = index["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} cannot be read; prepare the data again") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{folder} has format {version}, this openunite reads up to {FORMAT_VERSION}; upgrade"
        )
    return index


def _read_prepared(folder: Path) -> Source:
    index = read_index(folder)
    if not index["finished"]:
        raise ValueError(
            f"{folder} is prepared in part only; run the same `openunite prepare` again to go on"
        )
    files = tuple(folder / shard["name"] for shard in index["shards"])
    parts = []
    for file, shard in zip(files, index["shards"], strict=True):
        if not file.is_file() or file.stat().st_size != shard["bytes"]:
            raise ValueError(
                f"{file} is missing or has another size than {shard['bytes']} bytes; run the same "
                "`openunite prepare` again to mend it"
            )
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
            parts.append(dict(arrays))
    joined = {
        key: np.concatenate([part[key] for part in parts])
        for key in ("offsets", "lengths", "names", "labels", "held_out", "digests")
    }
    shards = np.repeat(np.arange(len(files)), [len(part["offsets"]) for part in parts])
    stamps = tuple(shard["sha256"] for shard in index["shards"])
    names = joined["names"]
    items = TarItems(files, stamps, shards, joined["offsets"], joined["lengths"], names)
    held_out = joined["held_out"] if joined["held_out"].any() else None
    classes, labels = tuple(index["class_names"]), joined["labels"]
    target, earlier = index["target"], index.get("copies", ())
    size, quality = target["size"], target["jpeg_quality"]
    copies = (*earlier, describe_copy(size, size, target["channels"], quality))
    return Source(folder.name, items, labels, classes, held_out, "", joined["digests"], copies)


def _members(file: Path) -> list[tuple[str, int, int, int | None]]:
    """(name, offset, length, class) of every image in one tar file."""
    from openunite.data.images.readers import SUFFIXES

    images: dict[str, tuple[str, int, int]] = {}
    classes: dict[str, int] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                key, suffix = f"{folder}/{base.split('.')[0]}", Path(base).suffix.lower()
                if not member.isfile():
                    continue
                if suffix in SUFFIXES:
                    images[key] = (member.name, member.offset_data, member.size)
                elif suffix == ".cls":
                    content = tar.extractfile(member)
                    classes[key] = int(content.read()) if content else 0
    except (tarfile.TarError, ValueError, OSError) as error:
        raise ValueError(f"{file} is no plain tar file of images and .cls ({error})") from error
    return [(*found, classes.get(key)) for key, found in images.items()]


def _stamp(file: Path) -> str:
    state = file.stat()
    return f"{state.st_size}-{state.st_mtime_ns}"

"""Open the tar shards that `openunite prepare` wrote by the index beside them.

Neither the index nor the arrays beside a shard are trusted: names must stay in the folder, and
every offset must lie in its shard.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openunite.data.images.columns import Fields, gather
from openunite.data.images.sources import Ints, LeftOut, Source, describe_copy
from openunite.data.images.tars import TarItems

INDEX = "prepared.json"
FORMAT_VERSION = 1
_COLUMNS = {"offsets": "i", "lengths": "i", "names": "S", "labels": "i", "held_out": "b"}


def read_index(folder: Path) -> dict[str, Any]:
    """prepared.json of a prepared folder. ValueError if it is damaged or of a newer format."""
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        version = index["format"]
        if type(version) is int and version > FORMAT_VERSION:
            raise OverflowError
        _check_index(index)
    except OverflowError:
        raise ValueError(
            f"{folder} has format {version}, this openunite reads up to {FORMAT_VERSION}; upgrade"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / INDEX} cannot be read; prepare the data again") from error
    return index


def _check_index(index: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError if a field is missing or has the wrong type."""
    target = index["target"]
    numbers = [index["format"], target["num_items"], target["size"], target["channels"]]
    numbers += [target["shard_size"], 0 if (q := target["jpeg_quality"]) is None else q]
    texts = [target["source"], *index.get("copies", ()), *index["class_names"]]
    texts += [*index.get("notes", ()), *(name for name, _ in index["skipped"])]
    for shard in index["shards"]:
        numbers += [shard["bytes"], shard["images"]]
        texts += [shard["name"], shard["sha256"]]
        if not re.fullmatch(r"[\w-]+\.tar", shard["name"]):
            raise ValueError("a shard outside the folder")
    if type(index["finished"]) is not bool or any(type(n) is not int or n < 0 for n in numbers):
        raise TypeError("expected a number")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("expected text")


def read_prepared(folder: Path) -> Source:
    """The copies in a folder. ValueError if it is unfinished, or if a shard is damaged."""
    index = read_index(folder)
    if not index["finished"]:
        raise ValueError(
            f"{folder} is prepared in part only; run the same `openunite prepare` again to go on"
        )
    classes, shards = tuple(index["class_names"]), index["shards"]
    files = tuple(folder / shard["name"] for shard in shards)
    parts = [_arrays(f, s, len(classes)) for f, s in zip(files, shards, strict=True)]
    if not parts:
        raise ValueError(f"{folder} holds no images; prepare the data again")
    joined = {key: np.concatenate([part[key] for part, _ in parts]) for key in parts[0][0]}
    ranks: Ints = np.repeat(np.arange(len(files)), [len(part["offsets"]) for part, _ in parts])
    stamps = tuple(shard["sha256"] for shard in shards)
    places = (joined["offsets"], joined["lengths"], joined["names"])
    items = TarItems(folder, files, stamps, ranks, *places)
    held_out = joined["held_out"] if joined["held_out"].any() else None
    target, earlier = index["target"], index.get("copies", ())
    size, quality = target["size"], target["jpeg_quality"]
    copies = (*earlier, describe_copy(size, size, target["channels"], quality))
    bad = [name for name, _ in index["skipped"]]
    reason = "not usable when the copy was made"
    left_out = (LeftOut("image", len(bad), tuple(bad[:3]), reason),) if bad else ()
    labels, digests, name = joined["labels"], joined["digests"], folder.resolve().name
    return Source(
        *(name, items, labels, classes, held_out, "", digests, copies),
        left_out=left_out,
        notes=tuple(index.get("notes", ())),
        columns=gather([row for _, rows in parts for row in rows]),
    )


def _arrays(
    file: Path, shard: Mapping[str, Any], num_classes: int
) -> tuple[dict[str, NDArray[Any]], list[Fields]]:
    """The arrays beside one shard, and the columns. ValueError if they or it are damaged."""
    if not file.is_file() or file.stat().st_size != shard["bytes"]:
        raise ValueError(
            f"{file} is missing or has another size than {shard['bytes']} bytes; run the same "
            "`openunite prepare` again to mend it"
        )
    beside, count = file.with_suffix(".npz"), shard["images"]
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
    inside = (starts >= 0) & (lengths > 0) & (lengths <= shard["bytes"] - starts)
    if not (inside & (labels >= 0) & (labels < max(1, num_classes))).all():
        raise _damaged(beside)
    return found, rows


def _rows(columns: Any, count: int) -> list[Fields]:
    """The columns of a shard, one row for each image; copies of older versions have none."""
    found = json.loads(str(columns))
    return [{name: values[i] for name, values in found.items()} for i in range(count)]


def _damaged(file: Path) -> ValueError:
    return ValueError(f"{file} is damaged; delete it and run the same `openunite prepare` again")

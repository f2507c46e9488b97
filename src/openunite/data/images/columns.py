"""Columns beside images: what tables and small files say of each image, None where they do not.

- `metadata.csv` or `metadata.jsonl` in a folder of images or above it, as `datasets` reads it: a
  column `file_name`, relative to the folder of the table, and any others.
- NAME.txt beside NAME.png is its `caption`; NAME.json holds further columns by name.
A table comes before NAME.txt, and that before NAME.json. Values are read when they are asked for,
but those of files in JSON at once, for nobody knows their names before.
"""

import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

from openunite.data.images.sources import Ints

CAPTION, FILE_NAME = "caption", "file_name"
TABLES = ("metadata.csv", "metadata.jsonl")
BESIDE = (".json", ".txt")
LONGEST = 2**20  # bytes of a small file; a longer one is no caption

Fields = Mapping[str, Any]  # what is known of one image
Columns = Mapping[str, Callable[[], list[Any]]]  # name -> a value for each image


class Beside(NamedTuple):
    """Columns of the images of a folder, and notes on tables that do not fit."""

    columns: Columns
    notes: tuple[str, ...]


def gather(rows: Sequence[Fields]) -> Columns:
    """The columns of rows, one for each image, in the order in which their names occur."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: partial(_cells, rows, name) for name in names}


def select(columns: Columns, at: Ints) -> Columns:
    """The same columns of some of the images."""
    return {name: partial(_some, column, at) for name, column in columns.items()}


def join_columns(first: Columns, second: Columns, counts: tuple[int, int]) -> Columns:
    """The columns of two parts, one after the other; a part that lacks one has empty cells."""
    names = dict.fromkeys([*first, *second])
    parts = (first, counts[0]), (second, counts[1])
    return {
        name: partial(_both, [part.get(name, partial(_empty, count)) for part, count in parts])
        for name in names
    }


def is_beside(name: str, images: Collection[str]) -> bool:
    """Whether a file says something of an image whose name without its suffix is in `images`."""
    return _suffix(name) in BESIDE and _stem(name) in images


def fields_of(suffix: str, content: bytes) -> Fields | None:
    """The columns in one small file; None where a JSON file holds no mapping."""
    text = content.decode("utf-8-sig", errors="replace")
    if suffix.lower() == ".txt":
        return {CAPTION: " ".join(text.split())}
    try:
        found = _loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def pair(
    images: Sequence[str],
    fields: Sequence[tuple[str, Fields]],
    sample: Callable[[str], str],
) -> tuple[list[dict[str, Any]], list[str]]:
    """The columns of each image from small files of the same sample, and those of no image."""
    found: dict[str, dict[str, Any]] = {sample(name): {} for name in images}
    lonely = []
    # A caption in its own file comes before one in JSON.
    for name, own in sorted(fields, key=lambda item: _suffix(item[0])):
        if sample(name) in found:
            found[sample(name)].update(own)
        else:
            lonely.append(name)
    return [found[sample(name)] for name in images], lonely


def read_beside(root: Path, names: Sequence[str]) -> Beside:
    """The columns of the images with these names below `root`. ValueError names a bad file."""
    folders = sorted({name.rpartition("/")[0] for name in names})
    stems = set(map(_stem, names))
    files = [file for folder in folders for file in _files(root, folder) if _stem(file) in stems]
    read = {file: _read_small(root / file) for file in files}
    rows, _ = pair(names, [(file, found) for file, found in read.items() if found], _stem)
    notes = []
    if broken := [file for file, found in read.items() if found is None]:
        notes.append(f"{len(broken)} files beside images hold no mapping in JSON ({broken[0]})")
    index = {name: i for i, name in enumerate(names)}
    for folder in sorted({above for inside in folders for above in _ancestors(inside)}):
        for path in (root / folder / table for table in TABLES):
            if path.is_file():
                notes += _add_table(path, folder, index, rows)
    return Beside(gather(rows), tuple(notes))


def _add_table(
    path: Path, folder: str, index: Mapping[str, int], rows: list[dict[str, Any]]
) -> list[str]:
    """Enter the rows of one table; return notes. ValueError for two rows of one image."""
    seen: set[int] = set()
    strange: list[str] = []
    table = list(_table(path))
    if not any(FILE_NAME in row for row in table):
        return [f"{path} is not used, for it has no {FILE_NAME}"]
    for number, row in enumerate(table, start=1):
        name = row.get(FILE_NAME)
        if not isinstance(name, str) or not name:
            raise ValueError(f"row {number} of {path} has no {FILE_NAME}; name its image")
        at = index.get(normpath(f"{folder}/{name}" if folder else name))
        if at is None:
            strange.append(name)
        elif at in seen:
            raise ValueError(f"{path} has two rows for {name}; keep one of them")
        else:
            seen.add(at)
            rows[at].update({key: value for key, value in row.items() if key != FILE_NAME})
    if not strange:
        return []
    shown = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
    return [
        f"{path} has {len(strange)} rows without an image ({shown}); {FILE_NAME} is relative to "
        f"the folder of the table, as in {next(iter(index)).removeprefix(f'{folder}/')}"
    ]


def _table(path: Path) -> Iterator[Fields]:
    """The rows of a table. ValueError for text that is no such table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                for row in csv.DictReader(file):
                    if None in row:
                        raise ValueError("a row is longer than the first one")
                    yield row
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    found = _loads(line)
                    if not isinstance(found, dict):
                        raise ValueError(f"line {number} is no mapping")
                    yield found
    except (ValueError, csv.Error) as error:  # text that is not UTF-8, or no JSON
        raise ValueError(f"cannot read {path} ({error}); correct it, or rename it") from error


def _read_small(path: Path) -> Fields | None:
    """The columns in a file; None for one that is too long or no mapping."""
    long = path.stat().st_size > LONGEST
    return None if long else fields_of(path.suffix, path.read_bytes())


def _files(root: Path, folder: str) -> list[str]:
    """Names below `root` of the small files in one folder, sorted."""
    start = f"{folder}/" if folder else ""
    with os.scandir(root / folder) as entries:
        found = [e.name for e in entries if _suffix(e.name) in BESIDE and e.is_file()]
    return [start + name for name in sorted(found)]


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _ancestors(folder: str) -> list[str]:
    """The folder and those above it, down from the source itself, which is ""."""
    return ["", *accumulate(folder.split("/"), "{}/{}".format)] if folder else [""]


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _cells(rows: Sequence[Fields], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _some(column: Callable[[], list[Any]], at: Ints) -> list[Any]:
    values = column()
    return [values[i] for i in at.tolist()]


def _both(parts: Sequence[Callable[[], list[Any]]]) -> list[Any]:
    return [value for part in parts for value in part()]


def _empty(count: int) -> list[Any]:
    return [None] * count

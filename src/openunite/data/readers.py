"""Readers of files, by suffix: this package's own and those of installed packages.

A reader turns one file into data points. Another package adds one with an entry point of the group
`openunite.readers` that names a `Reader`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from openunite.data.holdout import Skipped
from openunite.registry import Registry


@dataclass(frozen=True)
class Labeled:
    """A data point with the name of its class, which readers for added modalities may yield."""

    value: Any
    label: str


@dataclass(frozen=True)
class Reader:
    """How files with some suffixes are read.

    `holds` says what their data points are: "images", "molecules", "crystals", or the `things` of
    another modality's task. `read(path)` yields data points, and `Skipped` for a record that cannot
    be used: a PIL image for "images" (one for each file), a `Structure` or an object of ASE, RDKit
    or pymatgen for molecules and crystals. ValueError or OSError say that a file cannot be read.
    """

    suffixes: tuple[str, ...]
    holds: tuple[str, ...]
    read: Callable[[Path], Iterable[Any]]


READERS = Registry("openunite.readers", {})


@cache
def readers_of(kind: str) -> Mapping[str, Reader]:
    """The readers of one kind of data points, by suffix, as they are installed at first use."""
    found: dict[str, Reader] = {}
    for name in READERS.names():
        reader: Reader = READERS.get(name)
        if kind in reader.holds:
            found |= dict.fromkeys(map(str.lower, reader.suffixes), reader)
    return found


def reader_of(path: str | Path, kind: str) -> Reader | None:
    """The reader of a file by the longest suffix (".nii.gz") that fits, None if there is none."""
    known, name = readers_of(kind), Path(path).name.lower()
    return known.get(max(filter(name.endswith, known), key=len, default=""))


def files_of(sources: Sequence[str], kind: str) -> list[Path]:
    """The given files, and those that some reader knows in and below given folders, in order.

    FileNotFoundError for a source that does not exist or has no such file.
    """
    known, files = readers_of(kind), list[Path]()
    for path in map(Path, sources):
        if path.is_dir():
            files += sorted(p for p in path.rglob("*") if p.is_file() and reader_of(p, kind))
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path} does not exist; expected a file or a folder")
    if not files:
        raise FileNotFoundError(
            f"no {kind} in {', '.join(sources)}; expected files that end in "
            f"{', '.join(known) or '(no reader of them is installed)'}"
        )
    return files


def read_files(
    files: Sequence[Path], kind: str, tell: Callable[[str, str], None]
) -> Iterator[tuple[str, Any]]:
    """Names and data points of all files. Calls `tell` for unusable ones; ValueError if all are."""
    found = False
    for file in files:
        reader = reader_of(file, kind)
        if reader is None:
            tell(str(file), f"no reader of {kind} knows {file.suffix!r}")
            continue
        try:
            for number, item in enumerate(reader.read(file)):
                if isinstance(item, Skipped):
                    tell(item.name, item.reason)
                    continue
                found = True
                yield f"{file}#{number}", item
        except (OSError, ValueError) as error:
            tell(str(file), str(error))
    if not found:
        raise ValueError(f"none of {len(files)} files could be read as {kind}")

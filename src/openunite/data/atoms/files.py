"""Molecules and crystals from files, folders of files and lists.

A record of a file that cannot be read is a `Skipped`.
"""

import codecs
import csv
import gzip
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import DTypeLike

from openunite.data.atoms.arrays import TEST, TRAIN, VAL, Reading, pack
from openunite.data.atoms.convert import structure_of
from openunite.data.atoms.structure import Ints, Structure
from openunite.data.holdout import Skipped, list_bad
from openunite.data.readers import Reader, reader_of, readers_of
from openunite.progress import bar

UNREADABLE = (OSError, EOFError, zlib.error)  # errors that a broken file may raise
_LONGEST_LINE = 1 << 24  # characters
_LONGEST_TEXT = 1 << 28
_LARGEST_ARCHIVE = 1 << 32  # bytes
_SPLITS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}


def open_text(path: Path) -> TextIO:
    """Open a text file: gzip if its name ends in .gz, UTF-16 if it has a byte order mark.

    Other files are read as UTF-8. Bytes that cannot be decoded become U+FFFD.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rb") as file:
        is_utf16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    return cast(TextIO, opened(path, "rt", encoding=encoding, errors="replace"))


def lines_of(file: TextIO) -> Iterator[str]:
    """The lines of a file; OSError for one that is too long to be text."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise OSError(f"a line of more than {_LONGEST_LINE} characters, the rest is not read")
        yield line


def text_of(path: Path) -> str:
    """The text of a file. OSError if it is too large."""
    with open_text(path) as file:
        text = file.read(_LONGEST_TEXT + 1)
    if len(text) > _LONGEST_TEXT:
        raise OSError(f"a text of more than {_LONGEST_TEXT} characters, divide it")
    return text


@contextmanager
def unzipped(path: Path) -> Iterator[Path]:
    """Unpack a zip archive into a temporary folder, which is removed at the end of the context.

    ValueError if it is not a zip archive or is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            size = sum(info.file_size for info in archive.infolist())
            if size > _LARGEST_ARCHIVE:
                raise ValueError(f"{path} holds {size} bytes; unpack it and give the folder")
            archive.extractall(folder)  # no member leaves the folder or exceeds its stated size
            yield Path(folder)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, *UNREADABLE) as error:
        raise ValueError(f"cannot read {path} as .zip ({error}); unpack it") from error


def suffix_of(path: Path) -> str:
    """The suffix in lower case, without .gz: "a.SDF.gz" -> ".sdf"."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


@dataclass(frozen=True)
class Kind:
    """Molecules or crystals: the suffixes of their own files, and what makes a structure one.

    `read` yields the records of such a file; files with the suffixes `others` are read elsewhere.
    `fault` says why a structure is not of this kind, "" if it is. Positions are kept as `dtype`.
    """

    name: str
    suffixes: tuple[str, ...]
    others: tuple[str, ...]
    dtype: DTypeLike
    read: Callable[[Path], Iterable[Structure | Skipped]]
    fault: Callable[[Structure], str]

    def checked(self, item: Structure | Skipped) -> Structure | Skipped:
        """The record, or what is wrong with it."""
        fault = self.fault(item) if isinstance(item, Structure) else ""
        return Skipped(item.name, fault) if fault else item


def read_list(kind: Kind, items: Sequence[Any]) -> Reading:
    """Structures in memory, of this package or of ASE, RDKit or pymatgen."""

    def converted(i: int) -> Structure | Skipped:
        name = f"{kind.name.removesuffix('s')} {i}"
        try:
            found = structure_of(items[i])
        except ValueError as error:
            return Skipped(name, str(error))
        return kind.checked(replace(found, name=found.name or name))

    return _collect(kind, f"{kind.name} in memory", map(converted, range(len(items))))


def read_path(kind: Kind, path: Path, progress: bool) -> Reading:
    """The records of a file or a folder. ValueError if it has none."""
    if path.is_dir():
        return _read_folder(kind, path, progress)
    if suffix_of(path) not in kind.suffixes and reader_of(path, kind.name) is None:
        known, own = ", ".join((*kind.suffixes, *kind.others)), kind.suffixes[-1]
        raise ValueError(
            f"expected {kind.name} as {known}, got {path}; convert the file first, for "
            f"instance: ase convert {path} {path.with_suffix(own)}"
        )
    return _collect(kind, path.name.split(".")[0], _records(kind, path))


def files_in(folder: Path, suffixes: Sequence[str], *kinds: str) -> list[Path]:
    """Files with these suffixes in and below a folder, sorted by path; hidden ones are ignored.

    Files that a reader of another package knows as one of `kinds` are included. Tables beside
    CIFs are not: they hold properties.
    """
    found = [
        path
        for path in _walk(folder)
        if suffix_of(path) in suffixes or any(reader_of(path, kind) for kind in kinds)
    ]
    if any(suffix_of(path) == ".cif" for path in found):
        found = [path for path in found if suffix_of(path) != ".csv"]
    return found


def read_foreign(reader: Reader, path: Path) -> Iterator[Structure | Skipped]:
    """The records that a reader finds; objects of ASE, RDKit and pymatgen become `Structure`."""
    try:
        for number, item in enumerate(reader.read(path), start=1):
            if isinstance(item, Skipped):
                yield item
                continue
            found = structure_of(item)
            yield replace(found, name=found.name or f"{path.name}, record {number}")
    except (*UNREADABLE, ValueError) as error:
        yield Skipped(path.name, f"cannot be read: {error}")


def _records(kind: Kind, path: Path) -> Iterator[Structure | Skipped]:
    reader = reader_of(path, kind.name)
    own = reader is None or suffix_of(path) in kind.suffixes
    try:
        if not path.is_file():  # a pipe may never end
            yield Skipped(path.name, "is no file")
            return
        found = kind.read(path) if own or reader is None else read_foreign(reader, path)
        yield from map(kind.checked, found)
    except (*UNREADABLE, csv.Error) as error:
        yield Skipped(path.name, f"cannot be read: {error}")


def split_of(files: Sequence[Path], folder: Path) -> list[int] | None:
    """The split of each file, from its name or its top folder ("train.csv", "train/a.cif").

    None unless every file has one, and train and one other occur. A validation split takes the
    place of a missing test split.
    """
    tops = [path.relative_to(folder).parts[0].split(".")[0].lower() for path in files]
    if not tops or not set(tops) <= set(_SPLITS):
        return None
    found = [_SPLITS[top] for top in tops]
    if TRAIN not in found or len(set(found)) < 2:
        return None
    return [TEST if part == VAL and TEST not in found else part for part in found]


def _read_folder(kind: Kind, folder: Path, progress: bool) -> Reading:
    """All records of the files of a folder, and the split if the names of the files state one.

    The name of a record begins with that of its file, which becomes the path below the folder.
    """
    files = files_in(folder, kind.suffixes, kind.name)
    if not files:
        others = Counter(suffix_of(path) or "no suffix" for path in _walk(folder))
        got = ", ".join(f"{count} of {name}" for name, count in others.most_common(3)) or "none"
        known = ", ".join((*kind.suffixes, *readers_of(kind.name)))
        raise ValueError(
            f"{folder} has no {kind.name}: expected files of {known}, got {got}; rename them if "
            "they are of one of these kinds"
        )
    parts = split_of(files, folder)
    items: list[Structure | Skipped] = []
    split: list[int] = []
    for i, path in enumerate(bar(files, "files", disable=None if progress else True)):
        below = path.relative_to(folder).as_posix()
        found = [_renamed(item, path.name, below) for item in _records(kind, path)]
        items += found
        if parts is not None:
            split += [parts[i]] * sum(isinstance(item, Structure) for item in found)
    return _collect(kind, str(folder), items, None if parts is None else np.array(split))


def _collect(
    kind: Kind, name: str, items: Iterable[Structure | Skipped], split: Ints | None = None
) -> Reading:
    """Pack records into arrays. ValueError if no record is a structure."""
    found: list[Structure] = []
    skipped: list[Skipped] = []
    for item in items:
        if isinstance(item, Structure):
            found.append(item)
        else:
            skipped.append(item)
    if not found and skipped:
        raise ValueError(f"{name} has no {kind.name} that can be read: {list_bad(skipped)}")
    if not found:
        raise ValueError(f"{name} has no {kind.name}; give a source that has some")
    return Reading(name, pack(found, kind.dtype), tuple(skipped), split)


def _renamed(item: Structure | Skipped, old: str, new: str) -> Structure | Skipped:
    if old == new or not item.name.startswith(old):
        return item
    return replace(item, name=new + item.name.removeprefix(old))


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if not entry.is_symlink():
                yield from _walk(entry)
        else:
            yield entry

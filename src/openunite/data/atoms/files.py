"""Text files, plain or gzipped, and folders of them.

A `read` function yields the records of a file; a record that cannot be read is a `Skipped`.
"""

import codecs
import gzip
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from numpy.typing import DTypeLike

from openunite.data.atoms.arrays import TEST, TRAIN, VAL, Reading, pack
from openunite.data.atoms.structure import Ints, Structure
from openunite.data.holdout import Skipped
from openunite.data.readers import reader_of
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
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if wide else "utf-8-sig"
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


def kind_of(path: Path) -> str:
    """The suffix in lower case, without .gz: "a.SDF.gz" -> ".sdf"."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def files_in(folder: Path, kinds: Sequence[str], *things: str) -> list[Path]:
    """Files of these kinds in and below a folder, sorted by path; hidden entries are ignored.

    Files that a reader of another package knows as one of `things` are included.
    """
    return [
        path
        for path in _walk(folder)
        if kind_of(path) in kinds or any(reader_of(path, name) for name in things)
    ]


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


def collect(
    name: str,
    items: Iterable[Structure | Skipped],
    what: str,
    dtype: DTypeLike,
    split: Ints | None = None,
) -> Reading:
    """Pack records into arrays, positions as `dtype`. ValueError if no record is a structure."""
    found, skipped = [], []
    for item in items:
        if isinstance(item, Structure):
            found.append(item)
        else:
            skipped.append(item)
    if not found:
        bad = ", ".join(f"{item.name} ({item.reason})" for item in skipped[:5])
        raise ValueError(
            f"{name} has no {what} that can be read: {bad}{', ...' * (len(skipped) > 5)}"
            if skipped
            else f"{name} has no {what}; give a source that has some"
        )
    return Reading(name, pack(found, dtype), tuple(skipped), split)


def collect_files(
    folder: Path,
    kinds: Sequence[str],
    files: Sequence[Path],
    read: Callable[[Path], Iterable[Structure | Skipped]],
    what: str,
    dtype: DTypeLike,
    progress: bool,
) -> Reading:
    """All records of the files of a folder, and the split if the names of the files state one.

    The name of a record begins with that of its file, which becomes the path below the folder.
    """
    if not files:
        others = Counter(kind_of(path) or "no suffix" for path in _walk(folder))
        got = ", ".join(f"{count} of {kind}" for kind, count in others.most_common(3)) or "none"
        raise ValueError(
            f"{folder} has no {what}: expected files of {', '.join(kinds)}, got {got}; rename "
            "them if they are of one of these kinds"
        )
    parts = split_of(files, folder)
    items: list[Structure | Skipped] = []
    split: list[int] = []
    for i, path in enumerate(bar(files, "files", disable=None if progress else True)):
        below = path.relative_to(folder).as_posix()
        # Anything but a regular file, such as a pipe, may never end.
        lost: Iterable[Structure | Skipped] = [Skipped(below, "is no file")]
        records = read(path) if path.is_file() else lost
        found = [_renamed(item, path.name, below) for item in records]
        items += found
        if parts is not None:
            split += [parts[i]] * sum(isinstance(item, Structure) for item in found)
    return collect(str(folder), items, what, dtype, None if parts is None else np.array(split))


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

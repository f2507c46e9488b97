"""`Source`: what every reader of images returns, before any decoding."""

import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm"),
    *(".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
TEST_NAMES = ("test", "val", "valid", "validation")
HELD_OUT = (*TEST_NAMES, "testing", "dev", "eval")  # the first that exists is used
_SPLIT = re.compile(rf"(train|training|{'|'.join(HELD_OUT)})[ _-]?(set|split|data|images|\d{{4}})?")
# Files that operating systems leave behind; names that begin with a dot are hidden as well.
_LITTER = {"__macosx", "lost+found", "$recycle.bin", "system volume information", "@eadir"}
_LITTER |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}
MOST_BYTES = 2**30  # no image within Pillow's limit on pixels is larger


class Items(Protocol):
    """Encoded images or pixels by position; picklable, and safe to read from several threads."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """A unique, readable name of item i, for messages."""

    def stamp(self, i: int) -> str:
        """Text that changes when item i changes; "" if that is unknown without reading it."""

    def read(self, i: int) -> bytes | Pixels:
        """The file's bytes, or uint8 pixels (H, W) or (H, W, C). Raises OSError."""


@dataclass(frozen=True)
class MemoryItems:
    """Encoded files, or pixels (H, W) or (H, W, C), in memory.

    `label` makes the name of an item, such as "images[{}]", and `version` is the stamp of all.
    """

    contents: Sequence[bytes | Pixels] | Pixels
    label: str
    version: str = ""

    def __len__(self) -> int:
        return len(self.contents)

    def name(self, i: int) -> str:
        return self.label.format(i)

    def stamp(self, i: int) -> str:
        return self.version

    def read(self, i: int) -> bytes | Pixels:
        content: bytes | Pixels = self.contents[i]
        return content


@dataclass(frozen=True)
class LeftOut:
    """Unused contents of one kind in a source, and advice on what to do about them."""

    kind: str
    count: int
    examples: tuple[str, ...]
    advice: str = ""

    @property
    def counted(self) -> str:
        """The number and the kind, such as "3 .csv files"."""
        return f"{self.count} {self.kind}{'s' * (self.count > 1)}"

    def __str__(self) -> str:
        """A short sentence for messages."""
        names = ", ".join(self.examples) + (", ..." if self.count > len(self.examples) else "")
        return f"{self.counted} left out ({names})" + (f": {self.advice}" if self.advice else "")


class Ledger:
    """Counts what is left out, by kind, and keeps the first names of each kind."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, list[str]]] = {}

    def add(self, kind: str, name: str, advice: str = "") -> None:
        """Count one content called `name` under its kind and the advice about it."""
        count, names = self._found.get((kind, advice), (0, []))
        self._found[kind, advice] = count + 1, names if count >= 3 else [*names, name]

    def add_file(self, name: str, what: str = "file", advice: str = "") -> None:
        """Count a file, or a member of an archive, that is not an image by its suffix."""
        suffix = Path(name).suffix.lower()
        if suffix in (".heic", ".heif"):
            advice = "convert to PNG or JPEG"
        elif suffix in ARCHIVES:
            advice = "unpack before use"
        elif suffix in (".csv", ".json", ".jsonl") and not advice:
            advice = "classes are read from folders, columns from metadata.csv or metadata.jsonl"
        self.add(f"{suffix or 'suffixless'} {what}", name, advice)

    def count(self, kind: str) -> int:
        """The number of contents of one kind."""
        return sum(count for (found, _), (count, _) in self._found.items() if found == kind)

    def result(self) -> tuple[LeftOut, ...]:
        """All that was counted, sorted by kind."""
        rows = sorted(self._found.items())
        return tuple(LeftOut(kind, n, tuple(names), text) for (kind, text), (n, names) in rows)


@dataclass(frozen=True)
class Source:
    """Items with labels int64 (N,); `class_names` is empty for unconditional data.

    `held_out` bool (N,) marks the source's own test split, None if it has none. `location`
    identifies the source across runs; "" if an index of what was read would save nothing.
    `digests` uint8 (N, 32), the sha256 of the originals, are given if the source was checked when
    it was made, so that all its items can be used. `copies` has one `describe_copy` for each time
    that the originals were copied. `left_out` lists what else the source holds, `notes` what was
    decided while it was read.
    """

    name: str
    items: Items
    labels: Ints
    class_names: tuple[str, ...] = ()
    held_out: NDArray[np.bool_] | None = None
    location: str = ""
    digests: Pixels | None = None
    copies: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    columns: Mapping[str, Callable[[], list[Any]]] = field(default_factory=dict)


def describe_copy(height: int, width: int, channels: int, jpeg_quality: int | None = None) -> str:
    """Description of a copy. A PNG copy has the pixels that its originals give at this size."""
    kind = "PNG" if jpeg_quality is None else f"JPEG {jpeg_quality}"
    return f"{height} x {width} x {channels}, {kind}"


@dataclass(frozen=True)
class JoinedItems:
    """The items of a train split followed by those of a test split."""

    first: Items
    second: Items

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def name(self, i: int) -> str:
        items, j = self._find(i)
        return items.name(j)

    def stamp(self, i: int) -> str:
        items, j = self._find(i)
        return items.stamp(j)

    def read(self, i: int) -> bytes | Pixels:
        items, j = self._find(i)
        return items.read(j)

    def _find(self, i: int) -> tuple[Items, int]:
        size = len(self.first)
        return (self.first, i) if i < size else (self.second, i - size)


def join(train: Items, test: Items) -> tuple[JoinedItems, NDArray[np.bool_]]:
    """The items of both splits, and bool (N,) that marks those of the test split."""
    return JoinedItems(train, test), np.arange(len(train) + len(test)) >= len(train)


def read_file(path: Path) -> bytes:
    """The bytes of an ordinary file. OSError for a pipe or a device, which may have no end."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError("not an ordinary file")
    if state.st_size > MOST_BYTES:
        raise OSError(f"{state.st_size:,} bytes, more than an image has")
    return path.read_bytes()


def stamp_of(path: Path) -> str:
    """Size and time of a file, which change when it is written again. OSError if it is lost."""
    state = path.stat()
    return f"{state.st_size}-{state.st_mtime_ns}"


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's own, or hidden by a leading dot."""
    return name.startswith(".") or name.casefold() in _LITTER


def split_folders(names: Iterable[str], where: Path) -> tuple[str, ...]:
    """The train folder among `names`, then the test folders, the one to use first; or ().

    The case of letters does not matter. ValueError if two folders are called train.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        if match := _SPLIT.fullmatch(name.casefold()):
            kind = "train" if match[1] in ("train", "training") else match[1]
            found.setdefault(kind, []).append(name)
    tests = [name for kind in HELD_OUT for name in sorted(found.get(kind, ()))]
    train = found.get("train", [])
    if not train or not tests:
        return ()
    if len(train) > 1:
        raise ValueError(
            f"{where} has two train folders, {' and '.join(sorted(train)[:2])}; keep one of them"
        )
    return train[0], *tests


def split_of(path: Path, root: Path) -> str:
    """The split that the first word of a file's or its folder's name states: train, test, val, ...

    "" if neither states one.
    """
    for part in path.relative_to(root).parts:
        if match := _SPLIT.fullmatch(re.split(r"[^a-z]", part.lower())[0]):
            return "train" if match[1] == "training" else match[1]
    return ""


def files_below(folder: Path, suffix: str) -> list[Path]:
    """Ordinary files of this suffix in a folder, or if it has none, in its split folders."""
    if not folder.is_dir():
        return []
    entries = list(folder.iterdir())
    if not any(path.suffix.lower() == suffix for path in entries):
        splits = split_folders((path.name for path in entries if path.is_dir()), folder)
        entries = [path for name in splits[:2] for path in (folder / name).iterdir()]
    found = [path for path in entries if path.suffix.lower() == suffix]
    return sorted(path for path in found if not is_hidden(path.name) and path.is_file())

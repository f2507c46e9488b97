"""Read images by position from tar shards in webdataset's layout, without unpacking them.

A sample consists of the members whose names agree up to the first dot: one image and optionally a
`.cls` with its class as a number or text, a `.txt` with its caption and a `.json` with further
columns. If dots in names would put several images into one sample, each image is a sample of its
own, named by everything before the suffix. Shards belong to the test split by the first word of
their name or folder (test, val, ...). The headers of all members are read once per start;
`openunite prepare` writes shards with an index instead. Position i is a fixed offset in a fixed
shard, so a run resumes exactly.
"""

import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from openunite.data.images.columns import BESIDE, LONGEST, Fields, fields_of, gather, pair
from openunite.data.images.labels import Classes, check_labels
from openunite.data.images.sources import (
    HELD_OUT,
    MOST_BYTES,
    SUFFIXES,
    Ints,
    Ledger,
    Source,
    files_below,
    is_hidden,
    split_of,
    stamp_of,
)

_LONGEST_LABEL = 256
_ADVICE = "classes are read from .cls members"
_LOOK_BEHIND = 2**20  # bytes after the end mark that must be zero

Key = Callable[[str], str]  # the name of a member -> its sample


@dataclass(frozen=True)
class TarItems:
    """Item i is `lengths[i]` bytes at `offsets[i]` of file `files[shards[i]]`, below `root`.

    `names` are the members' names as bytes, `stamps` one per file.
    """

    root: Path
    files: tuple[Path, ...]
    stamps: tuple[str, ...]
    shards: Ints
    offsets: Ints
    lengths: Ints
    names: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.offsets)

    def name(self, i: int) -> str:
        file = self.files[self.shards[i]].relative_to(self.root)
        return f"{file}/{self.names[i].decode(errors='surrogateescape')}"

    def stamp(self, i: int) -> str:
        return self.stamps[self.shards[i]]

    def read(self, i: int) -> bytes:
        if self.lengths[i] > MOST_BYTES:
            raise OSError(f"{self.lengths[i]:,} bytes, more than an image has")
        with self.files[self.shards[i]].open("rb") as file:
            file.seek(self.offsets[i])
            content = file.read(self.lengths[i])
        if len(content) < self.lengths[i]:
            raise OSError(f"{self.files[self.shards[i]]} ends too early")
        return content


@dataclass
class _Shard:
    """Images (name, offset, length), classes (name, text) and other small members of a tar file."""

    file: Path
    images: list[tuple[str, int, int]] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)
    fields: list[tuple[str, Fields]] = field(default_factory=list)


def tar_files(folder: Path) -> list[Path]:
    """The tar shards in a folder, or else in its train and test folders."""
    return files_below(folder, ".tar")


def holds_images(file: Path) -> bool:
    """Whether a tar file has an image among its members; False if it cannot be read."""
    try:
        return any(_is_image(member) for member in _members(file))
    except (tarfile.TarError, ValueError, OSError, OverflowError):
        return False


def read_tars(source: Path, files: Sequence[Path]) -> Source:
    """A folder's shards, or one file. ValueError names the shard or the member that is wrong."""
    root = source if source.is_dir() else source.parent
    ledger = Ledger()
    shards = [_read(file, ledger) for file in files]
    found = [image for shard in shards for image in shard.images]
    if not found:
        held = "; ".join(map(str, ledger.result()))
        raise ValueError(f"the tar files in {source} hold no images{f' ({held})' if held else ''}")
    labels, notes, key = _labels(shards, ledger)
    ends = np.repeat(np.arange(len(files)), [len(shard.images) for shard in shards])
    names, offsets, lengths = zip(*found, strict=True)
    items = TarItems(
        root,
        tuple(files),
        tuple(map(stamp_of, files)),
        ends,
        np.array(offsets, dtype=np.int64),
        np.array(lengths, dtype=np.int64),
        np.array([name.encode(errors="surrogateescape") for name in names]),
    )
    classes, columns = _classes(labels, names, source), gather(_fields(shards, key, ledger))
    test = np.array([split_of(file, root) in HELD_OUT for file in files])[ends]
    held_out = test if test.any() and not test.all() else None
    where = source.resolve()
    name = where.stem if where.is_file() else where.name
    return Source(
        *(name, items, classes.labels, classes.names, held_out, str(where)),
        left_out=ledger.result(),
        notes=(*notes, *classes.notes),
        columns=columns,
    )


def _members(file: Path) -> Iterator[tarfile.TarInfo]:
    """The members that are not hidden. ValueError if the file does not end with an end mark."""
    with tarfile.open(file, "r:") as tar:
        while (member := tar.next()) is not None:
            # Otherwise tarfile keeps all of them, a gigabyte per million.
            tar.members.clear()  # type: ignore[attr-defined]
            if not any(is_hidden(part) for part in _clean(member.name).split("/")):
                yield member
        end = tar.offset
    with file.open("rb") as content:
        content.seek(end)
        rest = content.read(_LOOK_BEHIND)
    mark = rest[: tarfile.BLOCKSIZE]
    if len(mark) < tarfile.BLOCKSIZE or any(mark):
        raise ValueError(
            "it has no end mark, so it may be cut short; fetch it again, or if it is whole, run "
            f"`truncate -s +1024 {file.name}`"
        )
    if any(rest):
        raise ValueError("there is more behind its end mark; join archives by `tar -A`, not `cat`")


def _read(file: Path, ledger: Ledger) -> _Shard:
    """Images and labels of one tar file."""
    shard = _Shard(file)
    try:
        for member in _members(file):
            suffix = Path(member.name).suffix.lower()
            name = f"{file.name}/{member.name}"
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                ledger.add("linked or sparse member", name, "repack as ordinary files")
            elif suffix in SUFFIXES:
                shard.images.append((member.name, member.offset_data, member.size))
            elif suffix == ".cls":
                shard.labels.append((member.name, _label(file, member)))
            elif (fields := _beside(file, member)) is not None:
                shard.fields.append((member.name, fields))
            else:
                ledger.add_file(name, "member", _ADVICE)
    except (tarfile.TarError, ValueError, OSError, OverflowError) as error:
        raise ValueError(f"{file} is no plain tar file of images and .cls ({error})") from error
    return shard


def _label(file: Path, member: tarfile.TarInfo) -> str:
    if member.size > _LONGEST_LABEL:
        raise ValueError(f"{member.name} has {member.size} bytes, expected a class")
    return _content(file, member).decode(errors="surrogateescape").strip()


def _beside(file: Path, member: tarfile.TarInfo) -> Fields | None:
    """The columns in a small member; None for any other member."""
    suffix = Path(member.name).suffix
    small = suffix.lower() in BESIDE and member.size <= LONGEST
    return fields_of(suffix, _content(file, member)) if small else None


def _content(file: Path, member: tarfile.TarInfo) -> bytes:
    with file.open("rb") as content:
        content.seek(member.offset_data)
        return content.read(member.size)


def _labels(
    shards: Sequence[_Shard], ledger: Ledger
) -> tuple[list[str | None], tuple[str, ...], Key]:
    """The label of each image, notes, and what tells samples apart.

    ValueError for two images, or classes, of one sample.
    """
    lonely = Ledger()
    try:
        return _pair(shards, _sample, ledger), (), _sample
    except ValueError:
        labels = _pair(shards, _each_alone, lonely)
        if lonely.result():  # several images would share a class
            raise
        return labels, ("names hold dots: each image is a sample of its own",), _each_alone


def _sample(name: str) -> str:
    """The sample that a member belongs to."""
    folder, _, base = _clean(name).rpartition("/")
    return f"{folder}/{base.partition('.')[0]}"


def _each_alone(name: str) -> str:
    """The name without its suffix: each image is a sample."""
    return _clean(name).rpartition(".")[0]


def _fields(shards: Sequence[_Shard], key: Key, ledger: Ledger) -> list[Fields]:
    """The columns of each image; small members without an image are left out."""
    rows: list[Fields] = []
    for shard in shards:
        own, lonely = pair([name for name, *_ in shard.images], shard.fields, key)
        rows += own
        for name in lonely:
            ledger.add_file(f"{shard.file.name}/{name}", "member", _ADVICE)
    return rows


def _pair(shards: Sequence[_Shard], key: Key, ledger: Ledger) -> list[str | None]:
    labels: list[str | None] = []
    for shard in shards:
        texts = dict(shard.labels)
        images = _by_sample([name for name, *_ in shard.images], key, shard.file)
        named = _by_sample([name for name, _ in shard.labels], key, shard.file)
        labels += [texts[named[sample]] if sample in named else None for sample in images]
        for sample in named.keys() - images.keys():
            ledger.add("lonely .cls member", f"{shard.file.name}/{named[sample]}")
    return labels


def _by_sample(names: Sequence[str], key: Key, file: Path) -> dict[str, str]:
    """Names of the members by sample, in order. ValueError for two members of one sample."""
    found: dict[str, str] = {}
    for name in names:
        sample = key(name)
        if sample in found:
            raise ValueError(
                f"{file} has two members of one sample, {found[sample]} and {name}; give each "
                "sample one image and a name without dots"
            )
        found[sample] = name
    return found


def _classes(labels: Sequence[str | None], names: Sequence[str], source: Path) -> Classes:
    """The classes of all images. ValueError if one has none, or numbers and text are mixed."""
    if not any(label is not None for label in labels):
        return Classes.none(len(labels))
    if None in labels:
        name = names[labels.index(None)]
        raise ValueError(f"{name} in {source} has no .cls member as others have; add or drop them")
    texts = [label or "" for label in labels]
    is_number = [re.fullmatch(r"-?[0-9]{1,18}", text) is not None for text in texts]
    if not all(is_number) and (any(is_number) or "" in texts):
        wrong = is_number.index(False) if any(is_number) else texts.index("")
        raise ValueError(
            f"the class of {names[wrong]} in {source} is {texts[wrong]!r} where others are "
            f"{'numbers' if any(is_number) else 'text'}; write all of them in one way"
        )
    values = [int(text) for text in texts] if all(is_number) else texts
    return check_labels(values, len(values), (), str(source))


def _is_image(member: tarfile.TarInfo) -> bool:
    return member.isreg() and Path(member.name).suffix.lower() in SUFFIXES


def _clean(name: str) -> str:
    """The name without a leading "./"."""
    return name.removeprefix("./")

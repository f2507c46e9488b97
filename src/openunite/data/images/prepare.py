"""Resized copies of a source in tar shards with a checked index, for training at one size.

Images are converted once, as training would convert them (`pixels.py`, the rule of ADM). With PNG,
a run on the copy sees the pixels, the order and the held-out part of a run on the source; JPEG is
smaller but lossy. Every shard is written under a temporary name and then renamed, its index last.
After an interruption a second call verifies and keeps the finished shards and writes the others.
"""

import json
import os
import tarfile
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from openunite.cache import cache_folder
from openunite.data.holdout import Skipped, refuse_many
from openunite.data.images.look import depth_notes, inspect_images
from openunite.data.images.pixels import PixelSpec
from openunite.data.images.prepared import FORMAT_VERSION, INDEX, Index, Shard, Target, read_index
from openunite.data.images.readers import read_source
from openunite.data.images.scan import read_item
from openunite.data.images.sources import Pixels, Source
from openunite.files import atomic_file, sha256_of, write_json
from openunite.progress import bar


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare_images`; `kept` shards were finished and intact before the call.

    `notes` are sentences about the source.
    """

    num_images: int
    skipped: tuple[Skipped, ...]
    written: int
    kept: int
    notes: tuple[str, ...] = ()


def prepare_images(
    source: str | Path,
    folder: Path,
    *,
    size: int,
    channels: int | None = None,
    jpeg_quality: int | None = None,
    max_bad_share: float = 0.001,
    shard_size: int = 1024,
    cache_dir: str | Path | None = None,
    num_threads: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Write `size` x `size` copies of all images of a source into `folder`, or finish doing so.

    It accepts every source that training accepts. `channels` None chooses what the images need.
    ValueError if `folder` holds anything else, or more than `max_bad_share` of the images is bad.
    """
    found = _with_cells(read_source(source, cache_folder(cache_dir)))
    channels = channels or inspect_images(source, cache_dir=cache_dir).channels
    where = found.location or found.name
    target = Target(where, len(found.items), size, channels, jpeg_quality, shard_size)
    _check(target)
    _claim(folder, target)
    shards: list[Shard] = []
    bad: list[Skipped] = []
    written = 0
    starts = range(0, len(found.items), shard_size)
    for start in bar(starts, desc="shards", disable=None if progress else True):
        rows = range(start, min(start + shard_size, len(found.items)))
        path = folder / f"shard-{len(shards):05d}.tar"
        key = _key(found, rows, target)
        if not _is_sound(path, key):
            _write(path, found, rows, target, key, num_threads)
            written += 1
        shard, skipped = _finished(path)
        shards.append(shard)
        bad += skipped
        refuse_many(found.name, bad, len(found.items), max_bad_share, "images")
    notes = (*map(str, found.left_out), *found.notes, *depth_notes(found))
    reasons = tuple((item.name, item.reason) for item in bad)
    contents = (found.copies, found.class_names, notes, reasons, tuple(shards))
    write_json(folder / INDEX, asdict(Index(FORMAT_VERSION, True, target, *contents)))
    count = sum(shard.images for shard in shards)
    return Prepared(count, tuple(bad), written, len(shards) - written, notes)


def _finished(path: Path) -> tuple[Shard, list[Skipped]]:
    """A shard that is on disk, and the images that it lacks because they are bad."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        bad = map(Skipped, arrays["bad_names"].tolist(), arrays["bad_reasons"].tolist())
        count, checksum = len(arrays["offsets"]), str(arrays["sha256"])
        return Shard(path.name, path.stat().st_size, count, checksum), list(bad)


def _check(target: Target) -> None:
    PixelSpec(target.size, target.size, target.channels)  # raises ValueError for a bad size
    quality = target.jpeg_quality
    if quality is not None and (target.channels not in (1, 3) or not 1 <= quality <= 100):
        raise ValueError(
            f"JPEG holds 1 or 3 channels at a quality from 1 to 100, got {target.channels} "
            f"channels and quality {quality}; leave the quality out for PNG"
        )


def _claim(folder: Path, target: Target) -> None:
    """Make the folder, or check that it holds a part of this same copy. ValueError otherwise."""
    if (folder / INDEX).is_file():
        held = asdict(read_index(folder).target)
        pairs = [(name, held[name], value) for name, value in asdict(target).items()]
        if changed := [f"{name}: {old!r} -> {new!r}" for name, old, new in pairs if old != new]:
            raise ValueError(
                f"{folder} holds a copy made with other settings ({'; '.join(changed)}); choose "
                "another folder, or repeat those settings"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no prepared images; choose another")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / INDEX, asdict(Index(FORMAT_VERSION, False, target)))


def _with_cells(source: Source) -> Source:
    """The same source, the columns of which are read only once."""
    cells = {name: column() for name, column in source.columns.items()}
    return replace(source, columns={name: partial(_same, values) for name, values in cells.items()})


def _same(values: list[Any]) -> list[Any]:
    return values


def _key(source: Source, rows: range, target: Target) -> str:
    """Hash of all that a shard depends on: settings, names and stamps of its items, columns."""
    items = [(source.items.name(i), source.items.stamp(i)) for i in rows]
    beside = [_columns(source, rows)] if source.columns else []
    return sha256(json.dumps([asdict(target), items, *beside]).encode()).hexdigest()


def _columns(source: Source, at: Iterable[int]) -> str:
    """The columns of some items as JSON."""
    rows, columns = list(at), source.columns
    return json.dumps({name: [column()[i] for i in rows] for name, column in columns.items()})


def _is_sound(path: Path, key: str) -> bool:
    """Whether the shard exists, was made for this `key`, and has the right checksum."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            return bool(arrays["key"] == key and arrays["sha256"] == sha256_of(path))
    except Exception:  # a damaged file makes numpy raise many kinds; it is written again
        return False


def _write(
    path: Path, source: Source, rows: range, target: Target, key: str, num_threads: int | None
) -> None:
    """Write one shard, then its index."""
    temporary = path.with_name(f".writing-{path.name}")
    kept: list[tuple[int, int, int, str]] = []  # row, offset, length, digest
    bad: list[tuple[str, str]] = []
    with (
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
        # Closing it stops the work at an interrupt; else all images would be encoded first.
        closing(_encoded(source, rows, target, num_threads)) as encoded,
    ):
        for i, (digest, reason, content) in zip(rows, encoded, strict=True):
            if reason:
                bad.append((source.items.name(i), reason))
                continue
            kept.append((i, tar.offset + tarfile.BLOCKSIZE, len(content), digest))
            _add(tar, _member(i, target), content)
            if source.class_names:
                _add(tar, f"{i:09d}.cls", str(source.labels[i]).encode())
    at = np.array([i for i, *_ in kept], dtype=np.int64)
    held_out = np.zeros(len(at), dtype=bool) if source.held_out is None else source.held_out[at]
    arrays: dict[str, Any] = {
        "key": key,
        "sha256": sha256_of(temporary),
        "names": np.array([_member(i, target).encode() for i in at], dtype="S16"),
        "offsets": np.array([offset for _, offset, _, _ in kept], dtype=np.int64),
        "lengths": np.array([length for _, _, length, _ in kept], dtype=np.int64),
        "labels": source.labels[at],
        "held_out": held_out,
        "digests": np.array([list(bytes.fromhex(d)) for *_, d in kept], "u1").reshape(-1, 32),
        "bad_names": np.array([name for name, _ in bad], dtype=str),
        "bad_reasons": np.array([reason for _, reason in bad], dtype=str),
        "columns": np.array(_columns(source, at.tolist())),
    }
    os.replace(temporary, path)
    with atomic_file(path.with_suffix(".npz")) as file:
        np.savez(file, **arrays)


def _encoded(
    source: Source, rows: range, target: Target, num_threads: int | None
) -> Generator[tuple[str, str, bytes], None, None]:
    """Digest of each original, why it is bad ("": it is not), and the encoded copy, in order."""
    spec = PixelSpec(target.size, target.size, target.channels)

    def encode(i: int) -> tuple[str, str, bytes]:
        digest, reason, pixels = read_item(source, i, spec)
        return digest, reason, b"" if pixels is None else _encode(pixels, target.jpeg_quality)

    with ThreadPoolExecutor(num_threads or min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(encode, rows)


def _encode(pixels: Pixels, quality: int | None) -> bytes:
    """(C, H, W) -> a PNG, or a JPEG with full color resolution."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    buffer = BytesIO()
    if quality is None:
        image.save(buffer, "PNG", compress_level=1)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _member(i: int, target: Target) -> str:
    return f"{i:09d}.{'png' if target.jpeg_quality is None else 'jpg'}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member without time and owner, so that the same images make the same bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, BytesIO(content))

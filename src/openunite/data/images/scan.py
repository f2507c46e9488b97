"""The one pass over a source: each item is read once, hashed, decoded and, if wanted, kept.

The results are stored in an index file, so that a large source that is decoded on demand is not
read again at every start. The index holds, per item, a stamp (size and time of the file), the
sha256 of its content, and the reason why it cannot be used, if so; items that could not be read are
left out of it. A broken index is ignored and rewritten.
"""

import json
import os
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import numpy as np
import PIL

from openunite.data.images.pixels import BadImage, PixelSpec, decode
from openunite.data.images.sources import Pixels, Source
from openunite.files import write_text
from openunite.progress import bar

_CHUNK = 64  # items per task; one task per tiny image would cost more than the image


@dataclass(frozen=True)
class Record:
    """One item: stamp, sha256 (hex; "" if unreadable), and why it cannot be used ("": it can)."""

    stamp: str
    digest: str
    reason: str


def scan(
    source: Source,
    spec: PixelSpec,
    keep: bool,
    cache_dir: Path,
    num_threads: int | None,
    progress: bool,
) -> tuple[list[Record], Pixels | None]:
    """A record per item, and uint8 (N, C, H, W) if pixels are kept (rows of bad items: 0).

    All items are read to keep their pixels (`keep`), else only those that the index lacks.
    """
    items, count = source.items, len(source.items)
    if source.digests is not None and not keep:
        return [Record("", digest.tobytes().hex(), "") for digest in source.digests], None
    index = _index_path(source, spec, cache_dir)
    known = {} if index is None or keep else _load(index)
    # Taken before reading: a file that changes meanwhile gets an old stamp, not a wrong record.
    stamps = [items.stamp(i) for i in range(count)]
    records: list[Record | None] = [None] * count
    if known:
        for i, stamp in enumerate(stamps):
            found = known.get(items.name(i))
            records[i] = found if found and stamp and found.stamp == stamp else None
    missing = [i for i in range(count) if records[i] is None]
    pixels = np.zeros((count, *spec.shape), dtype=np.uint8) if keep else None

    def take(i: int) -> None:
        digest, reason, decoded = read_item(source, i, spec)
        records[i] = Record(stamps[i], digest, reason)
        if pixels is not None and decoded is not None:
            pixels[i] = decoded

    _for_each(take, missing, num_threads, progress)
    complete = [record for record in records if record is not None]
    if index is not None and missing:
        # Items that could not be read are left out, because they may be readable later.
        _save(index, {items.name(i): r for i, r in enumerate(complete) if r.digest})
    return complete, pixels


def read_item(source: Source, i: int, spec: PixelSpec) -> tuple[str, str, Pixels | None]:
    """Digest of the original, reason why it cannot be used ("": it can), and pixels of item i."""
    try:
        return _read_item(source, i, spec)
    except OSError as error:
        return "", f"cannot be read: {error.strerror or error}", None
    except MemoryError:
        return "", "needs more memory than there is", None


def _read_item(source: Source, i: int, spec: PixelSpec) -> tuple[str, str, Pixels | None]:
    content = source.items.read(i)
    if source.digests is not None:
        digest = source.digests[i].tobytes().hex()
    else:
        digest = sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest()
    try:
        return digest, "", decode(content, spec)
    except BadImage as error:
        return digest, str(error), None


def _for_each(
    work: Callable[[int], None], indices: list[int], num_threads: int | None, progress: bool
) -> None:
    """Call `work` on every index in several threads; Pillow and hashlib release the GIL.

    After an error or Ctrl-C no new item is begun, and the threads are not waited for, because one
    image may take seconds.
    """
    parts = [indices[start : start + _CHUNK] for start in range(0, len(indices), _CHUNK)]
    threads = min(len(parts), num_threads or min(8, os.cpu_count() or 1))
    chunks = deque([*parts, *[[]] * threads])  # an empty chunk ends a thread
    done = SimpleQueue[int | BaseException]()
    stopped = Event()

    def run() -> None:
        try:
            while chunk := chunks.popleft():
                for i in chunk:
                    if stopped.is_set():
                        return
                    work(i)
                done.put(len(chunk))
        except BaseException as error:
            done.put(error)

    for _ in range(threads):
        Thread(target=run, daemon=True).start()
    # disable=None: no bar unless standard error is a terminal.
    quiet = None if progress else True
    with bar(total=len(indices), desc="images", unit="", disable=quiet) as shown:
        try:
            for _ in parts:
                result = done.get()
                if isinstance(result, BaseException):
                    raise result
                shown.update(result)
        finally:
            stopped.set()


def _index_path(source: Source, spec: PixelSpec, cache_dir: Path) -> Path | None:
    """One file per source, target and Pillow version, which together decide what can be used."""
    if not source.location:
        return None
    key = json.dumps([source.location, str(spec), PIL.__version__, "1"])
    return cache_dir / f"images-{sha256(key.encode()).hexdigest()[:24]}.json"


def _load(path: Path) -> dict[str, Record]:
    """The index, empty if there is none or it is broken."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["records"]
        found = {name: Record(*entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found if all(_is_sound(record) for record in found.values()) else {}


def _is_sound(record: Record) -> bool:
    fields = (record.stamp, record.digest, record.reason)
    if not all(isinstance(field, str) for field in fields):
        return False
    return len(record.digest) == 64 and set(record.digest) <= set("0123456789abcdef")


def _save(path: Path, records: dict[str, Record]) -> None:
    entries = {name: [r.stamp, r.digest, r.reason] for name, r in records.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"records": entries}))
    except OSError as error:  # the index only saves time
        warnings.warn(f"cannot write the image index {path} ({error})", stacklevel=2)

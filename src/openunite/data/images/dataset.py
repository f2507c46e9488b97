"""Image data: open any source, hold some of it out, serve uint8 images by position.

A source is one of
- `fashion-mnist-mini` (embedded), `composed` (made of it) or `digits` (needs scikit-learn);
- a folder with one folder per class, a flat folder of images, or a folder that holds `train` and
  `test` (or `val`, `valid`, `validation`) folders of either kind;
- a .parquet file, a folder of them, or the id of a data set on the Hugging Face hub;
- a folder of tar shards, webdataset's or those of `openunite prepare`, see `tars.py`;
- an .npz file, see `arrays.py`.
What happens to each image is stated in `pixels.py`.
How images are held out is stated in `openunite.data.holdout`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openunite.batch import CLASS, Batch, Given
from openunite.cache import cache_folder
from openunite.data.holdout import Holdout, Skipped, choose_held_out, refuse_many
from openunite.data.images.columns import Columns, select
from openunite.data.images.look import depth_notes, overlap_notes
from openunite.data.images.pixels import BadImage, PixelSpec, decode
from openunite.data.images.readers import read_source
from openunite.data.images.scan import Record, scan
from openunite.data.images.sources import Ints, Items, LeftOut, Pixels, Source, describe_copy

_MEMORY_LIMIT = 2 * 1024**3  # bytes of pixels; of more than that images are decoded when asked for


class _Store(Protocol):
    def read(self, rows: Ints) -> Pixels:
        """Rows (B,) -> images uint8 (B, C, H, W)."""


@dataclass(frozen=True)
class _InMemory:
    pixels: Pixels

    def read(self, rows: Ints) -> Pixels:
        return self.pixels[rows]


@dataclass(frozen=True)
class _OnDemand:
    items: Items
    spec: PixelSpec

    def read(self, rows: Ints) -> Pixels:
        return np.stack([self._decode(int(row)) for row in rows])

    def _decode(self, row: int) -> Pixels:
        try:
            return decode(self.items.read(row), self.spec)
        except (OSError, BadImage) as error:
            raise ValueError(
                f"image {self.items.name(row)} was fine when the data was opened but is not now "
                f"({error}); restore it or start again"
            ) from error


class ImageDataset:
    """Images by position, 0 to len - 1; picklable.

    `labels` int64 (N,) are zeros where the data have no classes (`has_classes` False). `columns`
    are functions by name that give a value for each image.
    """

    def __init__(
        self,
        store: _Store,
        rows: Ints,
        labels: Ints,
        shape: tuple[int, ...],
        has_classes: bool = True,
        columns: Columns | None = None,
    ) -> None:
        self._store, self._rows, self._shape = store, rows, shape
        self.columns = columns or {}
        self.labels, self.has_classes = torch.from_numpy(labels), has_classes

    @property
    def sizes(self) -> None:
        """None, because all images have one size."""
        return

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int] | Tensor) -> Batch:
        """The images at `indices`: `data` uint8 (B, C, H, W), and their class if they have one.

        IndexError for a position outside the set.
        """
        asked = np.asarray(indices, dtype=np.int64).reshape(-1)
        at = np.where(asked < 0, asked + len(self), asked)
        if ((at < 0) | (at >= len(self))).any():
            raise IndexError(f"expected positions below {len(self)}, got {asked.tolist()[:8]}")
        data = self._store.read(self._rows[at]) if len(at) else np.zeros((0, *self._shape), "u1")
        where = torch.from_numpy(at)
        known = {CLASS: Given.of_all(self.labels[where])} if self.has_classes else {}
        return Batch(torch.from_numpy(data), where, conditions=known)


@dataclass(frozen=True)
class ImageData:
    """An opened source. `num_classes` is 0 for unconditional data, `class_names` is then empty.

    `fingerprint` is a sha256 over content, labels, order and split of the usable images (not over
    names or sizes); a resumed run compares it to notice that the data changed. A prepared copy has
    the fingerprint of its original if the pixels are the same. `left_out` lists what the source
    holds besides the images, by kind; `notes` are sentences on that and on decisions of the reader.
    """

    name: str
    train: ImageDataset
    test: ImageDataset
    num_classes: int
    class_names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    fingerprint: str
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


def open_images(
    source: Any,
    *,
    height: int,
    width: int,
    channels: int,
    min_side: int = 1,
    holdout_share: float = 0.05,
    holdout_max: int = 1000,
    max_bad_share: float = 0.001,
    cache_dir: str | Path | None = None,
    memory_limit: int = _MEMORY_LIMIT,
    num_threads: int | None = None,
    progress: bool = True,
) -> ImageData:
    """Open a source, a path or data in memory; each image becomes uint8 (channels, height, width).

    Images that are broken or have a side below `min_side` are skipped; ValueError if their fraction
    exceeds `max_bad_share`. Without a test split, round(`holdout_share` * N) images are held out,
    at least 1 and at most `holdout_max`. Pixels stay in memory if all take at most `memory_limit`
    bytes, else images are decoded on demand. `cache_dir` (~/.cache/openunite) holds an index of
    what was read. ValueError, FileNotFoundError or ImportError say why a source cannot be used.
    """
    holdout = Holdout(holdout_share, holdout_max)
    _check_options(max_bad_share, num_threads)
    spec = PixelSpec(height, width, channels, min_side)
    cache = cache_folder(cache_dir)
    found = read_source(source, cache)
    keep = len(found.items) * channels * height * width <= memory_limit
    seen = scan(found, spec, keep, cache, num_threads, progress)
    skipped = _skipped(found, seen.records, max_bad_share)
    rows = np.flatnonzero([not record.reason for record in seen.records])
    digests = [seen.records[row].digest for row in rows]
    held_out = _held_out(found, rows, digests, holdout)
    store = _OnDemand(found.items, spec) if seen.pixels is None else _InMemory(seen.pixels)
    train, test = (_dataset(found, store, part, spec) for part in (rows[~held_out], rows[held_out]))
    names, labels = found.class_names, found.labels[rows]
    exact = describe_copy(height, width, channels)
    altered = [copy for copy in found.copies if copy != exact]
    fingerprint = _fingerprint(digests, labels, held_out, names, altered)
    notes = (*map(str, found.left_out), *found.notes, *depth_notes(found))
    notes += overlap_notes(found, rows, digests, held_out)
    return ImageData(
        *(found.name, train, test, len(names), names, skipped, fingerprint, found.left_out, notes)
    )


@dataclass(frozen=True)
class ImagePart:
    """All images of a source, or of a source with a split those of one part.

    `digests` are those of the files or pixels as the source has them.
    """

    name: str
    images: ImageDataset
    class_names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    digests: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """A sha256 over the content and the order of the images."""
        return sha256("".join(self.digests).encode()).hexdigest()


def open_part(
    source: Any, part: Literal["all", "train", "test"], spec: PixelSpec, *, progress: bool = True
) -> ImagePart:
    """Open a source without holding anything out; images that cannot be used are left out.

    ValueError if no image is left.
    """
    cache = cache_folder()
    found = read_source(source, cache)
    keep = len(found.items) * math.prod(spec.shape) <= _MEMORY_LIMIT
    seen = scan(found, spec, keep, cache, None, progress)
    chosen = np.ones(len(found.items), dtype=bool)
    if part != "all" and found.held_out is not None:
        chosen = found.held_out == (part == "test")
    bad = np.array([bool(record.reason) for record in seen.records], dtype=bool)
    rows = np.flatnonzero(chosen & ~bad)
    if not len(rows):
        raise ValueError(
            f"{found.name} has no usable image of the {chosen.sum()} to be compared; add images"
        )
    store = _OnDemand(found.items, spec) if seen.pixels is None else _InMemory(seen.pixels)
    names = found.class_names
    return ImagePart(
        found.name,
        _dataset(found, store, rows, spec),
        names,
        tuple(
            Skipped(found.items.name(i), seen.records[i].reason)
            for i in np.flatnonzero(chosen & bad).tolist()
        ),
        tuple(seen.records[row].digest for row in rows),
    )


def _dataset(source: Source, store: _Store, rows: Ints, spec: PixelSpec) -> ImageDataset:
    """Some of the images of a source, with their classes and columns."""
    labels, columns = source.labels[rows], select(source.columns, rows)
    return ImageDataset(store, rows, labels, spec.shape, bool(source.class_names), columns)


def _check_options(bad_share: float, num_threads: int | None) -> None:
    if not 0.0 <= bad_share <= 1.0:
        raise ValueError(f"max_bad_share must lie in [0, 1], got {bad_share}")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")


def _skipped(source: Source, records: list[Record], max_bad_share: float) -> tuple[Skipped, ...]:
    """The images that cannot be used. ValueError if they are too many."""
    bad = [
        Skipped(source.items.name(i), record.reason)
        for i, record in enumerate(records)
        if record.reason
    ]
    refuse_many(source.name, bad, len(records), max_bad_share, "images")
    return tuple(bad)


def _held_out(
    source: Source, rows: Ints, digests: Sequence[str], holdout: Holdout
) -> NDArray[np.bool_]:
    """Which of the usable `rows` are test images. ValueError if a side would be empty."""
    if len(rows) < 2:
        raise ValueError(
            f"{source.name} has {len(rows)} usable images of {len(source.items)}; expected at "
            "least 2; add images"
        )
    if source.held_out is None:
        held_out = choose_held_out(digests, holdout)
    else:
        held_out = source.held_out[rows]
    if held_out.all() or not held_out.any():
        raise ValueError(
            f"{source.name} has {(~held_out).sum()} usable images to train on and "
            f"{held_out.sum()} to test on, expected at least 1 of each; add images, and not "
            "copies of the same one"
        )
    return held_out


def _fingerprint(
    digests: Sequence[str],
    labels: Ints,
    held_out: NDArray[np.bool_],
    names: Sequence[str],
    altered: Sequence[str],
) -> str:
    total = sha256(repr(tuple(names)).encode())
    total.update(bytes.fromhex("".join(digests)))
    total.update(labels.astype("<i8").tobytes())
    total.update(held_out.tobytes())
    if altered:
        total.update(repr(altered).encode())
    return total.hexdigest()

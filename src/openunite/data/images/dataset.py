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
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openunite.batch import CLASS, Batch, Given
from openunite.cache import cache_folder
from openunite.data.holdout import (
    Holdout,
    Skipped,
    check_limit,
    check_sides,
    choose_held_out,
    fingerprint,
    positions,
    refuse_many,
)
from openunite.data.images.columns import Columns, select
from openunite.data.images.look import depth_notes, overlap_notes
from openunite.data.images.pixels import BadImage, PixelSpec, decode
from openunite.data.images.readers import read_source
from openunite.data.images.scan import Record, scan
from openunite.data.images.sources import Ints, Items, LeftOut, Pixels, Source, describe_copy

_MEMORY_LIMIT = 2 * 1024**3  # bytes of pixels; of more than that images are decoded when asked for


@dataclass(frozen=True)
class _OnDemand:
    """Images by row, decoded when asked for."""

    items: Items
    spec: PixelSpec

    def __getitem__(self, rows: Ints) -> Pixels:
        return np.stack([self._decode(row) for row in rows.tolist()])

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
        store: Pixels | _OnDemand,
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
        at = positions(indices, len(self))
        data = self._store[self._rows[at]] if len(at) else np.zeros((0, *self._shape), "u1")
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
    check_limit(max_bad_share)
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    spec = PixelSpec(height, width, channels, min_side)
    opened = _open(source, spec, memory_limit, cache_dir, num_threads, progress)
    found, records = opened.source, opened.records
    rows = np.arange(len(records))
    skipped = opened.skipped(rows)
    refuse_many(found.name, skipped, len(records), max_bad_share, "images")
    rows = opened.usable(rows)
    digests = opened.digests(rows)
    held_out = _held_out(found, rows, digests, holdout)
    notes = (*map(str, found.left_out), *found.notes, *depth_notes(found))
    return ImageData(
        found.name,
        opened.images(rows[~held_out]),
        opened.images(rows[held_out]),
        len(found.class_names),
        found.class_names,
        skipped,
        _fingerprint(found, spec, rows, digests, held_out),
        found.left_out,
        notes + overlap_notes(found, rows, digests, held_out),
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
    opened = _open(source, spec, _MEMORY_LIMIT, None, None, progress)
    found = opened.source
    chosen = np.ones(len(found.items), dtype=bool)
    if part != "all" and found.held_out is not None:
        chosen = found.held_out == (part == "test")
    rows = opened.usable(np.flatnonzero(chosen))
    if not len(rows):
        raise ValueError(
            f"{found.name} has no usable image of the {chosen.sum()} to be compared; add images"
        )
    return ImagePart(
        found.name,
        opened.images(rows),
        found.class_names,
        opened.skipped(np.flatnonzero(chosen)),
        tuple(opened.digests(rows)),
    )


@dataclass(frozen=True)
class _Opened:
    """A source that was read once: a record per item, and the pixels or a way to read them."""

    source: Source
    spec: PixelSpec
    records: list[Record]
    store: Pixels | _OnDemand

    def usable(self, rows: Ints) -> Ints:
        return np.array([i for i in rows.tolist() if not self.records[i].reason], dtype=np.int64)

    def skipped(self, rows: Ints) -> tuple[Skipped, ...]:
        found = ((i, self.records[i].reason) for i in rows.tolist())
        return tuple(Skipped(self.source.items.name(i), reason) for i, reason in found if reason)

    def digests(self, rows: Ints) -> list[str]:
        return [self.records[i].digest for i in rows.tolist()]

    def images(self, rows: Ints) -> ImageDataset:
        labels, has_classes = self.source.labels[rows], bool(self.source.class_names)
        columns = select(self.source.columns, rows)
        return ImageDataset(self.store, rows, labels, self.spec.shape, has_classes, columns)


def _open(
    source: Any,
    spec: PixelSpec,
    memory_limit: int,
    cache_dir: str | Path | None,
    num_threads: int | None,
    progress: bool,
) -> _Opened:
    cache = cache_folder(cache_dir)
    found = read_source(source, cache)
    keep = len(found.items) * math.prod(spec.shape) <= memory_limit
    records, pixels = scan(found, spec, keep, cache, num_threads, progress)
    return _Opened(found, spec, records, _OnDemand(found.items, spec) if pixels is None else pixels)


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
    check_sides(source.name, "images", int((~held_out).sum()), int(held_out.sum()))
    return held_out


def _fingerprint(
    source: Source, spec: PixelSpec, rows: Ints, digests: list[str], held_out: NDArray[np.bool_]
) -> str:
    """The fingerprint of the usable `rows`. A copy of the same size has that of its original."""
    exact = describe_copy(spec.height, spec.width, spec.channels)
    altered = [copy for copy in source.copies if copy != exact]
    parts = [source.labels[rows].astype("<i8").tobytes(), held_out.tobytes()]
    parts += [repr(altered).encode()] if altered else []
    return fingerprint(source.class_names, digests, *parts)

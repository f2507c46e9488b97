"""Image data: open any source, keep some of it apart, serve uint8 images by position.

A source is one of
- `fashion-mnist-mini` (embedded) or `digits` (needs scikit-learn);
- a folder with one folder per class, a flat folder of images, or a folder that holds `train` and
  `test` (or `val`, `valid`, `validation`) folders of either kind;
- a .parquet file, a folder of them, or the id of a data set on the Hugging Face hub;
- a folder of tar shards, webdataset's or those of `openunite prepare`, see `tars.py`;
- an .npz file, see `arrays.py`.
What happens to each image is stated in `pixels.py`.

Where a source has no test split, the images with the smallest sha256 of their content are held
out: the choice depends neither on names nor on the order or the machine, and identical images
fall on one side together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from operator import index as as_index
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from openunite.cache import cache_folder
from openunite.data.images.look import depth_notes, overlap_notes
from openunite.data.images.pixels import BadImage, PixelSpec, decode
from openunite.data.images.readers import read_source
from openunite.data.images.scan import Record, scan
from openunite.data.images.sources import Ints, Items, LeftOut, Pixels, Source, describe_copy


@dataclass(frozen=True)
class Skipped:
    """An image that cannot be used, and why."""

    name: str
    reason: str


class _Store(Protocol):
    def read(self, rows: Ints) -> Pixels:
        """Rows (B,) -> (B, C, H, W)."""


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


class ImageDataset(Dataset[dict[str, Tensor]]):
    """Images by position, 0 to len - 1; picklable. `labels` int64 (N,), 0 if unconditional."""

    def __init__(self, store: _Store, rows: Ints, labels: Ints, shape: tuple[int, ...]) -> None:
        self._store, self._rows, self._shape = store, rows, shape
        self.labels = torch.from_numpy(labels)

    @property
    def sizes(self) -> None:
        """All images are alike."""
        return

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        """`data` uint8 (C, H, W), `label` and `index` int64 (). IndexError outside the set."""
        return {name: value[0] for name, value in self.batch([as_index(i)]).items()}

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """`data` uint8 (B, C, H, W), `label` and `index` int64 (B,), in the order of `indices`."""
        asked = np.asarray(indices, dtype=np.int64).reshape(-1)
        at = np.where(asked < 0, asked + len(self), asked)
        if ((at < 0) | (at >= len(self))).any():
            raise IndexError(f"expected positions below {len(self)}, got {asked.tolist()[:8]}")
        data = self._store.read(self._rows[at]) if len(at) else np.zeros((0, *self._shape), "u1")
        where = torch.from_numpy(at)
        return {"data": torch.from_numpy(data), "label": self.labels[where], "index": where}


@dataclass(frozen=True)
class ImageData:
    """An opened source. `num_classes` is 0 for unconditional data, and `class_names` then empty.

    `fingerprint` is a sha256 over content, labels, order and split of what can be used (not over
    names or sizes): a resumed run compares it to notice other data. Prepared copies have that of
    their originals where their pixels are the same. `left_out` lists what the source holds besides
    the images, by kind; `notes` are sentences on that and on what was decided while reading.
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
    source: str | Path,
    *,
    height: int,
    width: int,
    channels: int,
    min_side: int = 1,
    holdout_share: float = 0.05,
    holdout_max: int = 1000,
    max_bad_share: float = 0.001,
    cache_dir: str | Path | None = None,
    memory_limit: int = 2 * 1024**3,
    num_threads: int | None = None,
    progress: bool = True,
) -> ImageData:
    """Open a source; every image becomes uint8 (channels, height, width).

    Images that are broken or have a side below `min_side` are skipped; a share of them above
    `max_bad_share` is a ValueError. A source without a test split loses round(`holdout_share` * N)
    images to one, at least 1 and at most `holdout_max`. Pixels stay in memory if all take at most
    `memory_limit` bytes, else images are decoded when asked for. `cache_dir` (~/.cache/openunite)
    holds an index of what was read. ValueError, FileNotFoundError, ImportError: a bad source.
    """
    _check_options(holdout_share, holdout_max, max_bad_share, num_threads)
    spec = PixelSpec(height, width, channels, min_side)
    cache = cache_folder(cache_dir)
    found = read_source(source, cache)
    keep = len(found.items) * channels * height * width <= memory_limit
    seen = scan(found, spec, keep, cache, num_threads, progress)
    skipped = _skipped(found, seen.records, max_bad_share)
    rows = np.flatnonzero([not record.reason for record in seen.records])
    digests = [seen.records[row].digest for row in rows]
    held_out = _held_out(found, rows, digests, holdout_share, holdout_max)
    store = _OnDemand(found.items, spec) if seen.pixels is None else _InMemory(seen.pixels)
    parts = [rows[~held_out], rows[held_out]]
    train, test = (ImageDataset(store, part, found.labels[part], spec.shape) for part in parts)
    names, labels = found.class_names, found.labels[rows]
    exact = describe_copy(height, width, channels)
    altered = [copy for copy in found.copies if copy != exact]
    fingerprint = _fingerprint(digests, labels, held_out, names, altered)
    notes = (*map(str, found.left_out), *found.notes, *depth_notes(found))
    notes += overlap_notes(found, rows, digests, held_out)
    return ImageData(
        *(found.name, train, test, len(names), names, skipped, fingerprint, found.left_out, notes)
    )


def choose_held_out(digests: Sequence[str], share: float, maximum: int) -> NDArray[np.bool_]:
    """The images with the smallest hashes, bool (N,): round(share * N), at least 1.

    Identical images count together: a group that no longer fits is passed over. Only if not one
    group fits is the limit exceeded, by the smallest group.
    """
    room = min(max(1, round(share * len(digests))), maximum)
    unique, group, sizes = np.unique(digests, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(unique), dtype=bool)
    for rank, size in enumerate(sizes.tolist()):  # np.unique sorts by hash
        if size <= room:
            chosen[rank] = True
            room -= size
        if room == 0:
            break
    if not chosen.any():
        chosen[sizes.argmin()] = True
    return chosen[group]


def _check_options(share: float, maximum: int, bad_share: float, num_threads: int | None) -> None:
    if not 0.0 <= share < 1.0:
        raise ValueError(f"holdout_share must lie in [0, 1), got {share}")
    if maximum < 1:
        raise ValueError(f"holdout_max must be at least 1, got {maximum}")
    if not 0.0 <= bad_share <= 1.0:
        raise ValueError(f"max_bad_share must lie in [0, 1], got {bad_share}")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")


def _skipped(source: Source, records: list[Record], max_bad_share: float) -> tuple[Skipped, ...]:
    """What cannot be used."""
    bad = [
        Skipped(source.items.name(i), record.reason)
        for i, record in enumerate(records)
        if record.reason
    ]
    refuse_many(source.name, bad, len(records), max_bad_share)
    return tuple(bad)


def refuse_many(name: str, bad: Sequence[Skipped], total: int, max_bad_share: float) -> None:
    """ValueError if more images of the source called `name` are bad than the share allows."""
    share = len(bad) / max(1, total)  # the quotient: 0.29 * 100 is less than 29
    if share > max_bad_share:
        first = ", ".join(f"{item.name} ({item.reason})" for item in bad[:5])
        raise ValueError(
            f"{len(bad)} of {total} images in {name} ({share:.2%}) cannot be used, "
            f"more than max_bad_share = {max_bad_share:g} allows: {first}"
            f"{', ...' if len(bad) > 5 else ''}; remove them, or set max_bad_share to "
            f"{np.ceil(share * 1e4) / 1e4:g} or more (`--max-bad-share`)"
        )


def _held_out(
    source: Source, rows: Ints, digests: Sequence[str], share: float, maximum: int
) -> NDArray[np.bool_]:
    """Which of the usable `rows` are test images. ValueError if a side would be empty."""
    if len(rows) < 2:
        raise ValueError(
            f"{source.name} has {len(rows)} usable images of {len(source.items)}; expected at "
            "least 2; add images"
        )
    if source.held_out is None:
        held_out = choose_held_out(digests, share, maximum)
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

"""Images from .npz files, and the two built-in sets.

Three layouts, told apart by their keys:
- `jpeg` uint8 (all encoded files in one row), `offsets` (N + 1,), perhaps `labels` and `split`
  (0 train, 1 test), `class_names`;
- `images` (N, H, W) or (N, H, W, C), perhaps `labels`, `split`, `class_names`;
- `x_train`, perhaps `x_test`, `y_train`, `y_test`, `class_names`.
An array of another name with one value for each image is a column, which can become a condition.
Pixels are uint8, or floats in [0, 1]. Files are read with allow_pickle=False.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openunite import files
from openunite.data.images.labels import Classes, check_labels, one_per_image
from openunite.data.images.sources import Items, Ledger, MemoryItems, Pixels, Source, join, stamp_of
from openunite.optional import optional

_FASHION = Path(__file__).parent / "assets" / "fashion_mnist_mini.npz"
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
Arrays = Mapping[str, NDArray[Any]]
_KEYS = {"jpeg", "offsets", "images", "labels", "split", "class_names"}
_KEYS |= {"x_train", "x_test", "y_train", "y_test"}


def fashion_mnist_mini() -> Source:
    """The embedded set: 6000 and 1000 images, 28 x 28, gray, ten classes."""
    with np.load(_FASHION, allow_pickle=False) as file:
        found = {**file, "class_names": np.array(FASHION_CLASSES)}
    return replace(_read_splits(found, "fashion-mnist-mini", ""), left_out=())


def digits() -> Source:
    """1797 digits of scikit-learn, 8 x 8, gray. ImportError if scikit-learn is not installed."""
    found = optional("sklearn.datasets", "digits", "the source 'digits'").load_digits()
    pixels = np.rint(found.images * (255.0 / 16.0)).astype(np.uint8)
    classes = check_labels(found.target, len(pixels), (), "digits")
    return Source("digits", MemoryItems(pixels, "digits[{}]"), classes.labels, classes.names)


def read_npz(path: Path) -> Source:
    """Read an .npz of one of the layouts above. ValueError names the array that does not fit."""
    source = read_arrays(files.read_npz(path), str(path), stamp_of(path))
    return replace(source, name=path.stem, location=str(path.resolve()))


def read_arrays(found: Arrays, where: str, version: str) -> Source:
    """A source from arrays in one of the layouts above; `where` names them in messages."""
    if "x_train" in found:
        return _read_splits(found, where, version)
    if "jpeg" in found or "images" in found:
        return _read_whole(found, where, version)
    raise ValueError(
        f"{where} needs an array 'images', 'jpeg' or 'x_train', got {', '.join(found) or 'none'}"
    )


def _read_whole(found: Arrays, where: str, version: str) -> Source:
    """Layouts `jpeg` and `images`: one row of images, perhaps with `split`."""
    if "jpeg" in found:
        items = MemoryItems(_packed(found, where), "jpeg[{}]", version)
    else:
        items = MemoryItems(as_pixels(found["images"], "images", where), "images[{}]", version)
    classes = Classes.none(len(items))
    if "labels" in found:
        classes = check_labels(found["labels"], len(items), _class_names(found), where)
    held_out = None
    if "split" in found:
        split = found["split"]
        if split.shape != (len(items),) or not np.isin(split, (0, 1)).all():
            raise ValueError(
                f"'split' in {where} must hold 0 (train) or 1 (test) for each of {len(items)} "
                f"images, got shape {split.shape} and values {np.unique(split)[:5].tolist()}"
            )
        held_out = split == 1 if (split == 1).any() else None
    return _source(where, items, classes, held_out, found)


def _read_splits(found: Arrays, where: str, version: str) -> Source:
    """Layout `x_train`, `x_test`: the labels of both are checked together."""
    keys = [key for key in ("x_train", "x_test") if key in found]
    pixels = [as_pixels(found[key], key, where) for key in keys]
    pairs = zip(keys, pixels, strict=True)
    parts = [MemoryItems(part, f"{key}[{{}}]", version) for key, part in pairs]
    count = sum(map(len, parts))
    classes = Classes.none(count)
    given = [key.replace("x", "y") for key in keys]
    lacking = [key for key in given if key not in found]
    if lacking and len(lacking) < len(given):
        raise ValueError(f"{where} has labels for one split only; add {lacking[0]!r}")
    if not lacking:
        both = [
            one_per_image(found[labels], len(part), f"{where} ({key})")
            for key, labels, part in zip(keys, given, parts, strict=True)
        ]
        classes = check_labels(np.concatenate(both), count, _class_names(found), where)
    if len(parts) == 1:
        return _source(where, parts[0], classes, None, found)
    items, held_out = join(*parts)
    return _source(where, items, classes, held_out, found)


def _source(
    where: str, items: Items, classes: Classes, held_out: NDArray[np.bool_] | None, found: Arrays
) -> Source:
    """A source whose further arrays are columns if they have a value per item, else left out."""
    ledger, columns = Ledger(), {}
    for key in found:
        if key not in _KEYS and found[key].shape == (len(items),):
            columns[key] = found[key].tolist
        elif key not in _KEYS:
            ledger.add("array", key)
    return Source(
        *(where, items, classes.labels, classes.names, held_out),
        left_out=ledger.result(),
        notes=classes.notes,
        columns=columns,
    )


def _packed(found: Arrays, where: str) -> list[bytes]:
    data, offsets = found["jpeg"], found.get("offsets")
    if data.dtype != np.uint8 or data.ndim != 1:
        raise ValueError(
            f"'jpeg' in {where} must be uint8 in one row, got {data.dtype} {data.shape}"
        )
    if offsets is None or offsets.ndim != 1 or offsets.dtype.kind not in "iu" or not len(offsets):
        raise ValueError(f"{where} needs 'offsets', one row of N + 1 integers, beside 'jpeg'")
    offsets = offsets.astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) <= 0).any():
        raise ValueError(
            f"'offsets' in {where} must increase from 0 to {len(data)} (the length of 'jpeg'), got "
            f"{offsets[0]} to {offsets[-1]} with {(np.diff(offsets) <= 0).sum()} steps that do not"
        )
    return [data[start:stop].tobytes() for start, stop in pairwise(offsets.tolist())]


def as_pixels(values: NDArray[Any], key: str, where: str) -> Pixels:
    """Pixels as uint8; floats in [0, 1] are multiplied by 255 and rounded. ValueError otherwise."""
    channels = values.shape[3] if values.ndim == 4 else 1
    # (H, W, 3) is one color image, not H images of three columns.
    is_one = values.ndim == 3 and values.shape[2] <= 4 < values.shape[1]
    if values.ndim not in (3, 4) or is_one or not 1 <= channels <= 4 or 0 in values.shape[1:]:
        advice = f"; one image is {key}[None]" if is_one or values.ndim == 2 else ""
        if values.ndim == 4 and values.shape[1] <= 4:
            advice = f"; with channels second, save {key}.transpose(0, 2, 3, 1)"
        raise ValueError(
            f"{key!r} in {where} must have shape (N, H, W) or (N, H, W, 1 to 4), got "
            f"{values.shape}{advice}"
        )
    if values.dtype == np.uint8:
        return values
    low, high = (
        (values.min(initial=0), values.max(initial=0)) if values.dtype.kind in "fiu" else (0, 0)
    )
    # The negated test also refuses NaN.
    if values.dtype.kind != "f" or not (low >= 0 and high <= 1):
        got = f"{values.dtype} from {low} to {high}{_scale(key, low, high)}"
        raise ValueError(f"{key!r} in {where} must be uint8, or floats in [0, 1], got {got}")
    return np.rint(values * 255.0).astype(np.uint8)


def _scale(key: str, low: float, high: float) -> str:
    """Advice on how to scale values of this range, "" if there is none."""
    if low >= 0 and high <= 255:
        return f"; save {key}.astype('uint8')"
    if low >= -1 and high <= 1:
        return f"; save ({key} + 1) / 2"
    return f"; save {key} / white, with the value of white" if low >= 0 else ""


def _class_names(found: Arrays) -> tuple[str, ...]:
    return tuple(map(str, found["class_names"])) if "class_names" in found else ()

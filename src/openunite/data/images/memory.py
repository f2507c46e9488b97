"""Images that a Python program has in memory: lists, arrays and data sets, as a `Source`.

Items are read once, in order. An item is a PIL image or an array (H, W) or (H, W, C), alone or with
a label: as a pair, or as a row of a table with a column of images, whose other columns are kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from openunite.data.images.arrays import as_pixels, read_arrays
from openunite.data.images.columns import gather
from openunite.data.images.formats import encoded
from openunite.data.images.labels import Classes, check_labels
from openunite.data.images.sources import MemoryItems, Pixels, Source

NAME = "images in memory"
_IMAGE_COLUMNS = ("image", "img", "picture", "pixel_values")
_PLAIN = ("L", "RGB")  # eight bits, and nothing beside the pixels
_LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "target")


def from_memory(data: Any) -> Source:
    """A list of images, an array, a mapping of arrays, or a data set with a length.

    Arrays are (N, H, W) or (N, H, W, C), tensors (N, C, H, W), uint8 or floats in [0, 1]; a pair is
    images and labels. ValueError for anything else, and for a data set whose items are random.
    """
    if isinstance(data, Mapping):
        return read_arrays({name: _array(value) for name, value in data.items()}, NAME, "")
    images, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    if isinstance(images, np.ndarray) or hasattr(images, "permute"):
        found = {"images": _channels_last(images)}
        if labels is not None:
            found["labels"] = np.asarray(labels)
        return read_arrays(found, NAME, "")
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ValueError(
            f"expected a path, a list of images, an array or a data set with a length, got "
            f"{type(data).__name__}; make a list of it"
        )
    return _from_items(images, labels)


def _from_items(items: Any, labels: Any) -> Source:
    if len(items) == 0:
        raise ValueError("expected images, got an empty list; give at least 2")
    contents, found, rows = [], [], []
    for number in range(len(items)):
        image, label, others = _parts(items[number], number)
        contents.append(content_of(image, number))
        found.append(label)
        rows.append(others)
    again = content_of(_parts(items[0], 0)[0], 0)
    if _bytes(again) != _bytes(contents[0]):
        raise ValueError(
            "item 0 of the data differs when it is read twice, so a run could not be resumed; take "
            "the random transform out of the data set (training mirrors images with "
            "modality_config.flip)"
        )
    given = labels if labels is not None else found
    known = [label is not None for label in given]
    if any(known) and not all(known):
        raise ValueError(
            f"{known.count(True)} of {len(known)} items have a label; give all of them one, or none"
        )
    classes = Classes.none(len(contents))
    if all(known):
        values = np.asarray([label if isinstance(label, str) else int(label) for label in given])
        classes = check_labels(values, len(contents), _names(items), NAME)
    read, columns = MemoryItems(contents, "item {}"), gather(rows)
    return Source(NAME, read, classes.labels, classes.names, notes=classes.notes, columns=columns)


def _parts(item: Any, number: int) -> tuple[Any, Any, dict[str, Any]]:
    """The image of an item, its label, None if it has none, and its other columns."""
    if isinstance(item, Mapping):
        image = next((name for name in _IMAGE_COLUMNS if name in item), None)
        if image is None or item[image] is None:
            raise ValueError(
                f"item {number} has the columns {', '.join(map(str, item))}; call the one with "
                f"images {_IMAGE_COLUMNS[0]!r}"
            )
        label = next((name for name in _LABEL_COLUMNS if name in item), None)
        others = {str(name): item[name] for name in item if name not in (image, label)}
        return item[image], None if label is None else item[label], others
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1], {}
    return item, None, {}


def content_of(image: Any, number: int) -> bytes | Pixels:
    """An image as the readers take it: pixels as they are, others as a lossless file."""
    if isinstance(image, Image.Image) and image.mode in _PLAIN and not image.has_transparency_data:
        return np.asarray(image)
    if isinstance(image, Image.Image):
        return encoded(image)
    if isinstance(image, np.ndarray) or hasattr(image, "permute"):
        one = image[None] if image.ndim in (2, 3) else image
        pixels: Pixels = as_pixels(_channels_last(one), "item", f"item {number}")[0]
        return pixels
    raise ValueError(
        f"item {number} is a {type(image).__name__}; expected a PIL image, an array (H, W, C) or a "
        "tensor (C, H, W)"
    )


def _array(values: Any) -> np.ndarray:
    """An array; of lists of different lengths it is one of objects."""
    try:
        return np.asarray(values)
    except ValueError:
        rows = np.empty(len(values), dtype=object)
        rows[:] = values
        return rows


def _channels_last(images: Any) -> np.ndarray:
    """An array unchanged; a tensor (N, C, H, W) as an array (N, H, W, C)."""
    array = np.asarray(images)
    return array.transpose(0, 2, 3, 1) if hasattr(images, "permute") and array.ndim == 4 else array


def _names(items: Any) -> Sequence[str]:
    """The class names that a data set knows, for integer labels; empty if it knows none."""
    features = getattr(items, "features", None)
    for column in _LABEL_COLUMNS:
        if isinstance(features, Mapping) and hasattr(features.get(column), "names"):
            return list(features[column].names)
    classes = getattr(items, "classes", None)
    return [str(name) for name in classes] if isinstance(classes, list | tuple) else []


def _bytes(content: bytes | Pixels) -> bytes:
    return content if isinstance(content, bytes) else content.tobytes()

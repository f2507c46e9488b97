"""Images from parquet files and from the hub, read by `datasets`, which is imported only here.

The image column is the first of image, img, pixel_values that exists, else the only column of
type `Image`; the label column is the first of label, labels, fine_label, class. Text labels are
ranked by name. A parquet file belongs to the split its name starts with (test, val, valid,
validation), every other file to train.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openunite.data.images.sources import (
    TEST_NAMES,
    Ints,
    Items,
    Pixels,
    Source,
    check_labels,
    join,
)

if TYPE_CHECKING:
    from datasets import Dataset

_IMAGE_COLUMNS = ("image", "img", "pixel_values")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


@dataclass(frozen=True)
class TableItems:
    """One column of encoded images (bytes, or a mapping with bytes or path) or of pixel lists."""

    rows: "Dataset"
    column: str
    split: str

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return f"{self.split}[{i}]"

    def stamp(self, i: int) -> str:
        return str(self.rows._fingerprint)

    def read(self, i: int) -> bytes | Pixels:
        value = self.rows[i][self.column]
        if isinstance(value, dict):
            value = value["bytes"] or Path(value["path"] or "").read_bytes()
        if value is None or isinstance(value, bytes):
            return value or b""
        pixels = np.asarray(value)
        if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "iu":
            raise OSError(f"expected encoded bytes or pixels, got {pixels.dtype} {pixels.shape}")
        if pixels.min() < 0 or pixels.max() > 255:
            raise OSError(f"pixels from {pixels.min()} to {pixels.max()}, expected 0 to 255")
        return pixels.astype(np.uint8)


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files in a folder, or else in its `data` folder, as on the hub."""
    found = [*folder.glob("*.parquet")] or [*folder.glob("data/*.parquet")]
    return sorted(path for path in found if not path.name.startswith("."))


def read_parquet(path: Path, files: list[Path], cache_dir: Path) -> Source:
    """One or more parquet files. ValueError if they cannot be read or have no image column."""
    import datasets

    splits: dict[str, list[str]] = {}
    for file in files:
        first = re.split(r"[^a-z]", file.name.lower())[0]
        splits.setdefault(first if first in TEST_NAMES else "train", []).append(str(file.resolve()))
    try:
        # Named as an argument: the default would fill the hub's cache with local files.
        opened = datasets.load_dataset(
            "parquet", data_files=splits, cache_dir=str(cache_dir / "parquet")
        )
    except Exception as error:  # pyarrow's and datasets' own kinds of errors
        raise ValueError(f"cannot read {path} as parquet ({_first_line(error)})") from error
    name = path.stem if path.is_file() else path.resolve().name
    return _read_table(opened, name, str(path), str(path.resolve()))


def read_hub(name: str, built_in: Iterable[str]) -> Source:
    """A data set of the Hugging Face hub, or of its local cache when offline.

    FileNotFoundError, which also names the `built_in` sets, if it cannot be opened.
    """
    import datasets

    try:
        opened = datasets.load_dataset(name)
    except Exception as error:  # network, names, configurations, scripts: all kinds of errors
        raise FileNotFoundError(
            f"{name!r} is neither an existing path nor a hub data set that can be opened "
            f"({_first_line(error)}); check the spelling and the network "
            f"(built in are {', '.join(built_in)})"
        ) from error
    return _read_table(opened, name, f"hub data set {name}", f"hub:{name}")


def _read_table(opened: "dict[str, Dataset]", name: str, where: str, location: str) -> Source:
    """Choose splits and columns. ValueError if there is no train split or no image column."""
    train = opened.get("train") or (next(iter(opened.values())) if len(opened) == 1 else None)
    if train is None or not len(train):
        raise ValueError(f"{where} has no train images, only splits {', '.join(opened) or 'none'}")
    image = _image_column(train.features, where)
    label = next((key for key in _LABEL_COLUMNS if key in train.features), None)
    tests = [key for key in TEST_NAMES if key in opened and opened[key] is not train]
    # Benchmarks that hide the labels of their test split publish -1 instead.
    tests = [key for key in tests if label is None or set(opened[key][label][:]) != {-1}]
    parts = [train, *(opened[key] for key in tests[:1])]
    names = ["train", *tests[:1]]
    columns = [_items(part, image, key) for part, key in zip(parts, names, strict=True)]
    values = [value for part in parts for value in part[label][:]] if label else []
    labels, classes = _labels(train, label, values, sum(map(len, parts)), where)
    if len(columns) == 1:
        return Source(name, columns[0], labels, classes, None, location)
    items, held_out = join(*columns)
    return Source(name, items, labels, classes, held_out, location)


def _image_column(features: Any, where: str) -> str:
    import datasets

    typed = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    named = [key for key in _IMAGE_COLUMNS if key in features]
    if not named and len(typed) != 1:
        raise ValueError(
            f"{where} needs one image column, called {', '.join(_IMAGE_COLUMNS)} or of type Image; "
            f"it has {', '.join(features)}; rename a column"
        )
    return (named or typed)[0]


def _items(part: "Dataset", column: str, split: str) -> Items:
    import datasets

    part = part.select_columns([column])
    if isinstance(part.features[column], datasets.Image):
        # Undecoded: bytes are needed for their hash, and pixels.py has the rules.
        part = part.cast_column(column, datasets.Image(decode=False))
    return TableItems(part, column, split)


def _labels(
    train: "Dataset", label: str | None, values: list[Any], count: int, where: str
) -> tuple[Ints, tuple[str, ...]]:
    import datasets

    if label is None:
        return np.zeros(count, dtype=np.int64), ()
    if any(value is None for value in values):
        raise ValueError(f"column {label!r} of {where} has empty entries; label every image")
    if all(isinstance(value, str) for value in values):
        classes, ranks = np.unique(values, return_inverse=True)
        return check_labels(ranks, count, classes.tolist(), where)
    kind = train.features[label]
    names = kind.names if isinstance(kind, datasets.ClassLabel) else ()
    return check_labels(values, count, names, where)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

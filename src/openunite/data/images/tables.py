"""Images from parquet files and from the hub, read by `datasets`, which is imported only here.

The package `datasets` comes with the extra `hub`.

The image column is the first of image, img, pixel_values that exists, else the only column of
type `Image`; the label column is the first of label, labels, fine_label, class. Text labels are
ranked by name. Other columns of text, numbers or lists of text can become conditions. A parquet
file belongs to the split its name or its folder's starts with (test, val, ...), every other file to
train. A cell may name a file in or below the folder of the table; no file elsewhere is opened.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openunite.data.images.labels import Classes, check_labels
from openunite.data.images.sources import (
    HELD_OUT,
    TEST_NAMES,
    Items,
    Ledger,
    Pixels,
    Source,
    files_below,
    join,
    read_file,
    split_of,
)
from openunite.hub import hub_or_cache
from openunite.optional import optional

if TYPE_CHECKING:
    from datasets import Dataset

_IMAGE_COLUMNS = ("image", "img", "pixel_values")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")
_TEXT = ("string", "large_string")
_NUMBER = re.compile("u?int|float|bool")


@dataclass(frozen=True)
class TableItems:
    """One column of encoded images (bytes, or a mapping with bytes or path) or of pixel lists."""

    rows: "Dataset"
    column: str
    split: str
    roots: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return f"{self.split}[{i}]"

    def stamp(self, i: int) -> str:
        return str(self.rows._fingerprint)

    def read(self, i: int) -> bytes | Pixels:
        value = self.rows[i][self.column]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            return self._file(value)
        if value is None or isinstance(value, bytes):
            return value or b""
        try:
            pixels = np.asarray(value)
        except ValueError as error:  # the rows have different lengths
            raise OSError("a list that is no picture") from error
        if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "iu":
            raise OSError(f"expected encoded bytes or pixels, got {pixels.dtype} {pixels.shape}")
        if pixels.min() < 0 or pixels.max() > 255:
            raise OSError(f"pixels from {pixels.min()} to {pixels.max()}, expected 0 to 255")
        return pixels.astype(np.uint8)

    def _file(self, name: str) -> bytes:
        """An image that the table names by its path."""
        if len(name) > 4096 or "\0" in name:
            raise OSError("text, expected the bytes of an image or the path of one")
        path = (self.roots[0] / name).resolve()
        if not any(path.is_relative_to(root) for root in self.roots):
            raise OSError(f"{name} lies outside {self.roots[0]}, where the table is")
        if not path.exists():
            raise OSError(f"no file {name} in {self.roots[0]}")
        return read_file(path)


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files in a folder, in its train and test folders, or in `data`, as on the hub."""
    return files_below(folder, ".parquet") or files_below(folder / "data", ".parquet")


def holds_images(file: Path) -> bool:
    """Whether a parquet file has a column of images; False if it cannot be read."""
    try:
        from pyarrow import parquet, types

        schema = parquet.read_schema(file)
    except Exception:  # pyarrow is not installed, or raises one of its own errors
        return False
    kinds = [field.type for field in schema if field.name in _IMAGE_COLUMNS]
    return any(types.is_binary(kind) or types.is_nested(kind) for kind in kinds)


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a data set, or several splits of it, in this folder."""
    single = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return single or (folder / "dataset_dict.json").is_file()


def read_saved(folder: Path) -> Source:
    """A folder of `save_to_disk`. ValueError if it cannot be opened or has no image column."""
    datasets = _datasets(f"reading {folder}")

    try:
        opened = datasets.load_from_disk(str(folder))
    except Exception as error:  # pyarrow's and datasets' own kinds of errors
        raise ValueError(
            f"cannot open {folder} as a saved data set ({_reason(error)}); save it again"
        ) from error
    splits = opened if isinstance(opened, dict) else {"train": opened}
    root = folder.resolve()
    return _read_table(splits, root.name, str(folder), str(root), (root,))


def read_parquet(path: Path, files: list[Path], cache_dir: Path) -> Source:
    """One or more parquet files. ValueError if they cannot be read or have no image column."""
    datasets = _datasets(f"reading {path}")

    root = path if path.is_dir() else path.parent
    splits: dict[str, list[str]] = {}
    for file in files:
        splits.setdefault(split_of(file, root) or "train", []).append(str(file.resolve()))
    try:
        # The cache folder is given, as the default would fill the hub's cache with local files.
        opened = datasets.load_dataset(
            "parquet", data_files=splits, cache_dir=str(cache_dir / "parquet")
        )
    except Exception as error:  # pyarrow's and datasets' own kinds of errors
        raise ValueError(f"cannot read {path} as parquet ({_reason(error)})") from error
    name = path.stem if path.is_file() else path.resolve().name
    return _read_table(opened, name, str(path), str(path.resolve()), (root.resolve(),))


def read_hub(name: str, built_in: Iterable[str]) -> Source:
    """A data set of the Hugging Face hub, or of its local cache when offline.

    FileNotFoundError, which also names the `built_in` sets, if it cannot be opened.
    """
    datasets = _datasets(f"{name!r} is no existing path, and a data set of the hub")
    from huggingface_hub import constants

    try:
        with hub_or_cache():
            opened = datasets.load_dataset(name)
    except Exception as error:  # network, name, configuration or script: many kinds
        raise FileNotFoundError(
            f"{name!r} is neither an existing path nor a hub data set that can be opened "
            f"({_reason(error)}); check the spelling and the network "
            f"(built in are {', '.join(built_in)})"
        ) from error
    caches = (datasets.config.HF_DATASETS_CACHE, datasets.config.HF_CACHE_HOME)
    roots = tuple(Path(cache).resolve() for cache in (*caches, constants.HF_HUB_CACHE))
    return _read_table(opened, name, f"hub data set {name}", f"hub:{name}", roots)


def _read_table(
    opened: "Mapping[str, Dataset]", name: str, where: str, location: str, roots: tuple[Path, ...]
) -> Source:
    """Choose splits and columns. ValueError if there is no train split or no image column."""
    train = opened.get("train") or (next(iter(opened.values())) if len(opened) == 1 else None)
    if train is None or not len(train):
        raise ValueError(f"{where} has no train images, only splits {', '.join(opened) or 'none'}")
    image = _image_column(train.features, where)
    label = next((key for key in _LABEL_COLUMNS if key in train.features), None)
    ledger = Ledger()
    others = [key for key in train.features if key not in (image, label)]
    plain = [key for key in others if _is_plain(train.features[key])]
    for key in others:
        if key not in plain:
            ledger.add("column", key, "it holds neither text nor numbers nor lists of them")
    order = TEST_NAMES if location.startswith("hub:") else HELD_OUT
    tests = [key for key in order if key in opened and opened[key] is not train]
    # Benchmarks that hide the labels of their test split publish -1 instead.
    tests = [key for key in tests if label is None or set(opened[key][label][:]) != {-1}][:1]
    for key in opened:
        if opened[key] is not train and key not in tests:
            ledger.add("split", key)
    parts, names = [train, *(opened[key] for key in tests)], ["train", *tests]
    columns = [_items(part, image, key, roots) for part, key in zip(parts, names, strict=True)]
    classes = _labels(parts, label, where)
    items, held_out = (columns[0], None) if len(columns) == 1 else join(*columns)
    beside = {key: partial(_cells, parts, key) for key in plain}
    return Source(
        *(name, items, classes.labels, classes.names, held_out, location),
        left_out=ledger.result(),
        notes=classes.notes if label or not plain else (*classes.notes, _no_label(plain)),
        columns=beside,
    )


def _no_label(columns: Sequence[str]) -> str:
    known = ", ".join(_LABEL_COLUMNS)
    return f"{', '.join(columns)} can become conditions; classes are read from a column {known}"


def _is_plain(kind: Any) -> bool:
    """Whether a column holds one text or number for each image, or a list of text."""
    datasets = _datasets()
    inner = getattr(kind, "feature", None)
    scalar = inner if inner is not None else kind
    if isinstance(scalar, datasets.ClassLabel):
        return True
    if not isinstance(scalar, datasets.Value):
        return False
    return scalar.dtype in _TEXT or (inner is None and bool(_NUMBER.match(scalar.dtype)))


def _cells(parts: "Sequence[Dataset]", key: str) -> list[Any]:
    """The values of a column, those of a column of classes by name."""
    kind = parts[0].features[key]
    names = getattr(kind, "names", None) or getattr(getattr(kind, "feature", None), "names", None)
    cells = [cell for part in parts for cell in part[key][:]]
    if names is None:
        return cells
    return [_named(cell, names) for cell in cells]


def _named(cell: Any, names: Sequence[str]) -> Any:
    """A class, or a list of them, by name; -1 stands for none."""
    if isinstance(cell, list):
        return tuple(_named(each, names) for each in cell)
    return None if cell is None or cell < 0 else names[cell]


def _image_column(features: Any, where: str) -> str:
    typed = [key for key, kind in features.items() if isinstance(kind, _datasets().Image)]
    named = [key for key in _IMAGE_COLUMNS if key in features]
    if not named and len(typed) != 1:
        raise ValueError(
            f"{where} needs one image column, called {', '.join(_IMAGE_COLUMNS)} or of type Image; "
            f"it has {', '.join(features)}; rename a column"
        )
    return (named or typed)[0]


def _items(part: "Dataset", column: str, split: str, roots: tuple[Path, ...]) -> Items:
    part, image = part.select_columns([column]), _datasets().Image
    if isinstance(part.features[column], image):
        # Images stay encoded: their bytes are hashed, and pixels.py decodes them.
        part = part.cast_column(column, image(decode=False))
    return TableItems(part, column, split, roots)


def _labels(parts: "Sequence[Dataset]", column: str | None, where: str) -> Classes:
    if column is None:
        return Classes.none(sum(map(len, parts)))
    values = [value for part in parts for value in part[column][:]]
    if any(value is None for value in values):
        raise ValueError(f"column {column!r} of {where} has empty entries; label every image")
    names = getattr(parts[0].features[column], "names", None) or ()
    return check_labels(values, len(values), names, where)


def _datasets(purpose: str = "a table of images") -> Any:
    """The package `datasets`. ImportError says in one sentence how to install it."""
    return optional("datasets", "hub", purpose)


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause, because `datasets` wraps errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""Which reader opens which source, and the reader of folders.

Symbolic links to files that exist are followed, wherever they lead; a broken link counts as an
unreadable image; links to folders are never followed. Nothing is ever extracted or unpickled.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openunite.data.images import arrays, tables, tars
from openunite.data.images.sources import TEST_NAMES, Ints, Source

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm"),
    *(".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif"),
}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_BUILT_IN = {"fashion-mnist-mini": arrays.fashion_mnist_mini, "digits": arrays.digits}


def read_source(source: str | Path, cache_dir: Path) -> Source:
    """Look at any kind of source: what there is, before any decoding.

    ValueError or FileNotFoundError say in one sentence why a source cannot be used.
    """
    if isinstance(source, str) and source in _BUILT_IN:
        return _BUILT_IN[source]()
    path = Path(source).expanduser()
    if path.is_dir():
        if shards := tars.tar_files(path):
            return tars.read_tars(path, shards)
        parquet = tables.parquet_files(path)
        return tables.read_parquet(path, parquet, cache_dir) if parquet else read_folder(path)
    suffix = path.suffix.lower()
    if path.is_file():
        if suffix == ".npz":
            return arrays.read_npz(path)
        if suffix == ".parquet":
            return tables.read_parquet(path, [path], cache_dir)
        advice = "unpack it first" if suffix in _ARCHIVES else "put images into a folder"
        raise ValueError(
            f"expected a folder, a .npz or a .parquet file of images, got {path}; {advice}"
        )
    is_id = isinstance(source, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source)
    if is_id and suffix not in (".npz", ".parquet", *_ARCHIVES):
        return tables.read_hub(str(source), _BUILT_IN)
    raise FileNotFoundError(
        f"no image source at {path}; give an existing path, a hub id or one of "
        f"{', '.join(_BUILT_IN)}"
    )


@dataclass(frozen=True)
class FileItems:
    """Files below `root`."""

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        return self.names[i]

    def stamp(self, i: int) -> str:
        try:
            state = (self.root / self.names[i]).stat()
        except OSError:
            return ""
        return f"{state.st_size}-{state.st_mtime_ns}"

    def read(self, i: int) -> bytes:
        return (self.root / self.names[i]).read_bytes()


def read_folder(root: Path) -> Source:
    """Class folders, a flat folder of images, or train and test (val) folders of either kind.

    Class folders are searched recursively, a flat folder is not. Hidden entries and files whose
    suffix is no image's are ignored. Labels are ranks of the sorted class names.
    """
    root = root.resolve()
    folders = [entry.name for entry in _entries(root) if entry.is_dir()]
    test = next((name for name in TEST_NAMES if name in folders), None)
    if "train" not in folders or test is None:
        names, labels, classes = _read_split(root)
        return Source(root.name, FileItems(root, tuple(names)), labels, classes, None, str(root))
    others = [name for name in folders if name not in ("train", *TEST_NAMES)]
    extra = [name for name in others if _walk(root / name, name)]
    if extra or _images_in(root):
        raise ValueError(
            f"{root} has train and {test} folders but also "
            f"{', '.join(extra[:3]) or 'loose images'}; move those elsewhere"
        )
    names, labels, classes = _read_split(root / "train")
    more, more_labels, more_classes = _read_split(root / test, fewest=1)
    if bool(classes) != bool(more_classes) or not set(more_classes) <= set(classes):
        raise ValueError(
            f"{root / 'train'} and {root / test} need the same class folders, got "
            f"{_shown(classes)} and {_shown(more_classes)}"
        )
    if classes:
        more_labels = np.array([classes.index(name) for name in more_classes])[more_labels]
    paths = [f"train/{name}" for name in names] + [f"{test}/{name}" for name in more]
    held_out = np.arange(len(paths)) >= len(names)
    labels = np.concatenate([labels, more_labels])
    return Source(root.name, FileItems(root, tuple(paths)), labels, classes, held_out, str(root))


def image_files(folder: Path) -> list[Path]:
    """Images in and below `folder`, sorted, by the rules of `read_folder`: what `train` takes."""
    return [Path(name) for name in _walk(folder.resolve(), str(folder))]


def _read_split(root: Path, fewest: int = 2) -> tuple[list[str], Ints, tuple[str, ...]]:
    """Names below `root`, labels and class names of one folder: images or `fewest` classes."""
    loose = _images_in(root)
    found = {e.name: _walk(Path(e.path), e.name) for e in _entries(root) if e.is_dir()}
    filled = [folder for folder in found if found[folder]]
    if loose and filled:
        raise ValueError(
            f"{root} mixes {len(loose)} loose images with folders of images ({filled[0]}); keep "
            "only images (unconditional) or only class folders"
        )
    if loose:
        return loose, np.zeros(len(loose), dtype=np.int64), ()
    if not filled:
        raise ValueError(f"{root} has no images; expected images or one folder per class")
    if empty := [folder for folder in found if not found[folder]]:
        raise ValueError(f"class folder {root / empty[0]} has no images; fill or remove it")
    if len(filled) < fewest:
        raise ValueError(
            f"{root} has exactly one class folder, {filled[0]}, but classes need at least two; "
            f"for unconditional training point at {root / filled[0]} itself"
        )
    labels = np.repeat(np.arange(len(filled)), [len(found[name]) for name in filled])
    return [name for folder in filled for name in found[folder]], labels, tuple(filled)


def _walk(folder: Path, name: str) -> list[str]:
    """Images in and below a class folder in sorted order; `name` is the folder's own."""
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link to a folder; move the folder here or link its files")
    names = []
    for entry in _entries(folder):
        if entry.is_dir():
            names += _walk(folder / entry.name, f"{name}/{entry.name}")
        elif _is_image(entry):
            names.append(f"{name}/{entry.name}")
    return names


def _images_in(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if _is_image(entry) and not entry.is_dir()]


def _is_image(entry: "os.DirEntry[str]") -> bool:
    return os.path.splitext(entry.name)[1].lower() in SUFFIXES


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    """What is not hidden, by name; scandir knows files from folders without a stat of each."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(visible, key=lambda entry: entry.name)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"

"""Read folders of images.

Symbolic links to files that exist are followed, wherever they lead; a broken link counts as an
unreadable image; links to folders are never followed. What openunite itself wrote below a folder
(runs, copies, pipelines) is not part of the data.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openunite.data.images.columns import TABLES, is_beside, read_beside
from openunite.data.images.formats import converted, is_image, suffixes
from openunite.data.images.labels import Classes, in_order
from openunite.data.images.sources import (
    Ledger,
    Source,
    is_hidden,
    read_file,
    split_folders,
    stamp_of,
)

_OUR_FOLDER = "openunite folder"
_OURS = (("config.yaml", "data.json"), ("prepared.json",), ("model_index.json",))
_PICTURES = {"images", "imgs", "image"}
_ANNOTATIONS = {"masks", "mask", "annotations", "labels", "segmentations", "groundtruth"}


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
            return stamp_of(self.root / self.names[i])
        except OSError:
            return ""

    def read(self, i: int) -> bytes:
        path = self.root / self.names[i]
        found = converted(path)
        return read_file(path) if found is None else found


def read_folder(root: Path) -> Source:
    """Class folders, a flat folder of images, or train and test (val) folders of either kind.

    Class folders are searched recursively, a flat folder is not. Hidden entries are ignored, other
    files than images are left out. Labels are ranks of the class names, see `in_order`. ValueError
    if there are no images, or if images are mixed with folders of images.
    """
    root, ledger = root.resolve(), Ledger()
    found = splits(root)
    if not found:
        names, classes = _read_split(root, ledger)
        labels, held_out = classes.labels, None
    else:
        train, test = found[:2]
        for name in found[2:]:
            ledger.add("folder", name, f"{test} is the test split")
        count_files(root, ledger, _tables(root))
        first, classes = _read_split(root / train, ledger)
        second, others = _read_split(root / test, ledger, fewest=1)
        if bool(classes.names) != bool(others.names) or not set(others.names) <= set(classes.names):
            raise ValueError(
                f"{root / train} and {root / test} need the same class folders, got "
                f"{_shown(classes.names)} and {_shown(others.names)}"
            )
        ranks = np.array([classes.names.index(name) for name in others.names] or [0])
        labels = np.concatenate([classes.labels, ranks[others.labels]])
        names = [f"{train}/{name}" for name in first] + [f"{test}/{name}" for name in second]
        held_out = np.arange(len(names)) >= len(first)
    beside = read_beside(root, names)
    return Source(
        *(root.name, FileItems(root, tuple(names)), labels, classes.names, held_out, str(root)),
        left_out=ledger.result(),
        notes=(*classes.notes, *beside.notes),
        columns=beside.columns,
    )


def input_files(names: Sequence[str]) -> list[Path]:
    """Files as given, whatever their suffix, and images in and below folders, sorted."""
    files: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            files += map(Path, _images_below(path.resolve(), str(path), Ledger()))
        else:
            files.append(path)
    if not files:
        raise FileNotFoundError(f"no images in {', '.join(names)}; expected {suffixes()}")
    return files


def splits(root: Path) -> tuple[str, ...]:
    """Names of the train and test folders, () if there are none. ValueError for other images."""
    folders = [entry.name for entry in _entries(root) if _is_folder(entry)]
    found = split_folders(folders, root)
    if not found:
        return ()
    extra = [n for n in folders if n not in found and any(_child(root / n, n, Ledger()))]
    if extra or any(map(_is_image, _entries(root))):
        raise ValueError(
            f"{root} has {found[0]} and {found[1]} folders but also "
            f"{', '.join(extra[:3]) or 'loose images'}; move those elsewhere"
        )
    return found


def _read_split(root: Path, ledger: Ledger, fewest: int = 2) -> tuple[list[str], Classes]:
    """Names of the images below `root` and their classes. ValueError below `fewest` classes."""
    entries = _entries(root)
    loose = [entry.name for entry in entries if _is_image(entry)]
    count_files(root, ledger, _tables(root))
    found, empty = dict[str, list[str]](), list[str]()
    for name in (entry.name for entry in entries if _is_folder(entry)):
        own = ledger.count(_OUR_FOLDER)
        if names := list(_child(root / name, name, ledger)):
            found[name] = names
        elif ledger.count(_OUR_FOLDER) == own:
            empty.append(name)
    filled = in_order(found)
    if loose and filled:
        raise ValueError(
            f"{root} mixes {len(loose)} loose images with folders of images ({filled[0]}); keep "
            "only images (unconditional) or only class folders"
        )
    if loose:
        return loose, Classes.none(len(loose))
    if not filled:
        others = sorted(ledger.result(), key=lambda item: -item.count)
        held = ", ".join(item.counted for item in others)
        advice = others[0].advice if others else ""
        raise ValueError(
            f"{root} has no images{f' but {held}' if held else ''}; "
            f"{advice or 'expected images or one folder per class'}"
        )
    if empty:
        raise ValueError(f"class folder {root / empty[0]} has no images; fill or remove it")
    if len(filled) < fewest:
        raise ValueError(
            f"{root} has exactly one class folder, {filled[0]}, but classes need at least two; "
            f"for unconditional training point at {root / filled[0]} itself"
        )
    labels = np.repeat(np.arange(len(filled)), [len(found[name]) for name in filled])
    names = [name for folder in filled for name in found[folder]]
    return names, Classes(labels, tuple(filled), _look_at_names(filled, root))


def _look_at_names(classes: Sequence[str], root: Path) -> tuple[str, ...]:
    """Notes on class names. ValueError if the folders hold pictures and their annotations."""
    lower = {name.casefold(): name for name in classes}
    pictures, marks = sorted(_PICTURES & set(lower)), sorted(_ANNOTATIONS & set(lower))
    if pictures and marks:
        raise ValueError(
            f"{root} has the folders {lower[pictures[0]]} and {lower[marks[0]]}, pictures and "
            f"their annotations, not classes; point at {root / lower[pictures[0]]} itself"
        )
    twins = [name for name in classes if lower[name.casefold()] != name]
    return tuple(
        f"the class folders {name} and {lower[name.casefold()]} differ in the case of letters only"
        for name in twins[:3]
    )


def has_images(folder: Path) -> bool:
    """Whether there are images in or below a folder."""
    return any(_images_below(folder.resolve(), "", Ledger()))


def _child(folder: Path, name: str, ledger: Ledger) -> Iterator[str]:
    """The images in and below a folder of the source, unless openunite wrote it."""
    if is_ours(folder):
        ledger.add(_OUR_FOLDER, name)
    else:
        yield from _images_below(folder, name, ledger)


def _images_below(folder: Path, name: str, ledger: Ledger) -> Iterator[str]:
    """Images in and below a folder in sorted order; `name` is the folder's own."""
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link to a folder; move the folder here or link its files")
    entries = _entries(folder)
    stems = _stems(entries)
    for entry in entries:
        inside = f"{name}/{entry.name}"
        if _is_folder(entry):
            yield from _child(folder / entry.name, inside, ledger)
        elif _is_image(entry):
            yield inside
        elif entry.name not in TABLES and not is_beside(entry.name, stems):
            ledger.add_file(inside)


def count_files(folder: Path, ledger: Ledger, used: Collection[Path] = ()) -> None:
    """Enter the files in a folder that are neither images, beside one, nor `used` as left out."""
    entries = _entries(folder)
    stems = _stems(entries)
    for entry in entries:
        known = _is_folder(entry) or _is_image(entry) or is_beside(entry.name, stems)
        if not known and Path(entry) not in used:
            ledger.add_file(entry.name)


def _tables(folder: Path) -> list[Path]:
    """The tables that may be in a folder."""
    return [folder / name for name in TABLES]


def _stems(entries: "Sequence[os.DirEntry[str]]") -> set[str]:
    """The names of images without their suffixes."""
    return {os.path.splitext(entry.name)[0] for entry in entries if _is_image(entry)}


def _is_image(entry: "os.DirEntry[str]") -> bool:
    return is_image(entry.name) and not _is_folder(entry)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_ours(folder: Path) -> bool:
    """Whether openunite wrote this folder: a run, a prepared copy or a pipeline."""
    return any(all((folder / name).is_file() for name in names) for names in _OURS)


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    """Entries that are not hidden, by name; scandir tells folders apart without a stat of each."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    return sorted(visible, key=lambda entry: entry.name)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "none"

"""Which reader opens which source. Nothing is ever extracted or unpickled."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from openunite.data.images import arrays, composed, folders, memory, prepared, tables, tars
from openunite.data.images.sources import ARCHIVES, Ledger, Source

_BUILT_IN = {
    "fashion-mnist-mini": arrays.fashion_mnist_mini,
    "digits": arrays.digits,
    composed.NAME: composed.composed,
}


def read_source(source: Any, cache_dir: Path) -> Source:
    """List the images of any kind of source, without decoding them.

    A source that is neither a path nor a name is data in memory, see `memory.py`. ValueError or
    FileNotFoundError say in one sentence why a source cannot be used.
    """
    if not isinstance(source, str | Path):
        return memory.from_memory(source)
    if not str(source):
        raise ValueError("the name of the image source is empty; give a path, or a hub id")
    path = Path(source)
    if isinstance(source, str) and source in _BUILT_IN:
        note = f"{source!r} is the built-in set; write ./{source} for the file or folder"
        found = _BUILT_IN[source]()
        return replace(found, notes=(note,)) if path.exists() else found
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        return _read_any_folder(path, cache_dir)
    suffix = path.suffix.lower()
    if path.is_file():
        if suffix == ".npz":
            return arrays.read_npz(path)
        if suffix == ".parquet":
            return tables.read_parquet(path, [path], cache_dir)
        if suffix == ".tar":
            return tars.read_tars(path, [path])
        advice = "unpack it first" if suffix in ARCHIVES else "put images into a folder"
        raise ValueError(
            f"expected a folder, a .npz, .parquet or .tar file of images, got {path}; {advice}"
        )
    is_id = isinstance(source, str) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", source)
    if is_id and suffix not in (".npz", ".parquet", *ARCHIVES):
        return tables.read_hub(str(source), _BUILT_IN)
    advice = "; of several files, give their folder" if re.search(r"[*?{]", str(source)) else ""
    raise FileNotFoundError(
        f"no image source at {path}; give an existing path, a hub id or one of "
        f"{', '.join(_BUILT_IN)}{advice}"
    )


def _read_any_folder(path: Path, cache_dir: Path) -> Source:
    """A prepared copy, a saved data set, tar shards, parquet files, or a folder of images.

    ValueError if the folder holds both images and files that hold images, to avoid a guess.
    """
    if (path / prepared.INDEX).is_file():
        return prepared.read_prepared(path)
    if tables.is_saved(path):
        return tables.read_saved(path)
    if folders.is_ours(path):
        raise ValueError(f"{path} is a run or a pipeline of openunite, not a source of images")
    shards, parquet = tars.tar_files(path), tables.parquet_files(path)
    if not shards and not parquet:
        return folders.read_folder(path)
    if folders.has_images(path):
        rivals = [file for file in shards if tars.holds_images(file)]
        rivals += [file for file in parquet if tables.holds_images(file)]
        if rivals and not folders.splits(path):
            raise ValueError(
                f"{path} has images and also {rivals[0].name}, which holds images; move one of "
                "them elsewhere, or give the file itself"
            )
        return folders.read_folder(path)
    ledger, used = Ledger(), set(shards or parquet)
    parents = sorted({file.parent for file in used})
    for folder in parents:
        folders.count_files(folder, ledger, used)
    if parents[0].parent == path:
        for name in folders.splits(path)[2:]:
            ledger.add("folder", name, "another folder is the test split")
    found = (
        tars.read_tars(path, shards) if shards else tables.read_parquet(path, parquet, cache_dir)
    )
    return replace(found, left_out=(*ledger.result(), *found.left_out))

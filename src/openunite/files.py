"""Atomic writing of files and folders (complete or not at all), and checksums of files."""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_LARGE, _DENSEST = 1 << 30, 100  # bytes; a larger archive may unpack to 100 times its size

_REMEDY = "copy it again, or remove it and repeat the command that wrote it"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write bytes into; at the end it is flushed to disk and replaces `path`.

    After an error `path` is unchanged. The unfinished file's name contains the process id.
    """
    final = path.resolve()  # a link stays a link
    temporary = final.with_name(f".{final.name}.writing-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_rows(
    file: BinaryIO, name: str, rows: Iterable[np.ndarray], count: int, **others: np.ndarray
) -> None:
    """An .npz with `count` rows, one at a time in memory, as the array `name`, and with others."""
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
            for i, row in enumerate(rows):
                if i == 0:
                    header = np.lib.format.header_data_from_array_1_0(row[None])
                    shape = (count, *row.shape)
                    header |= {"shape": shape, "fortran_order": False}
                    np.lib.format.write_array_header_1_0(entry, header)
                entry.write(np.ascontiguousarray(row).tobytes())
        for key, array in others.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz, read without pickles; ValueError if that cannot be done.

    A large file that claims to unpack to more than 100 times its size is refused.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > max(_LARGE, _DENSEST * path.stat().st_size):
            raise ValueError(f"it claims to hold {size} bytes")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds for damaged files
        kind = "it needs more memory than there is: " if isinstance(error, MemoryError) else ""
        raise ValueError(
            f"cannot read {path} as .npz without pickles ({kind}{error}); save plain arrays with "
            "np.savez"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an indented JSON file atomically, with a newline at the end."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises ValueError if it is damaged or holds another value."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise ValueError(f"{path} is damaged: it is no JSON ({error}); {_REMEDY}") from error
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ValueError(f"{path} is damaged: expected a mapping, got {kind}; {_REMEDY}")
    return values


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """A folder beside `final` to write into; at the end it is flushed to disk and replaces `final`.

    After an error `final` is unchanged. Other entries of an earlier `final` are kept, but a
    subfolder that is written again is replaced with all its contents.
    """
    final = final.resolve()
    temporary = final.with_name(f".{final.name}.writing-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            flush(path)
        _take_place(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _take_place(temporary: Path, final: Path) -> None:
    """Rename; between two renames an earlier `final` is called `.NAME.before-PID`."""
    before = final.with_name(f".{final.name}.before-{os.getpid()}")
    if not final.exists():
        os.rename(temporary, final)
    else:
        os.rename(final, before)
        try:
            os.rename(temporary, final)
        except BaseException:
            os.rename(before, final)
            raise
        for entry in before.iterdir():
            if not (final / entry.name).exists():
                os.rename(entry, final / entry.name)
        shutil.rmtree(before)
    flush(final.parent)


def sha256_of(path: Path) -> str:
    """The sha256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """fsync a file or a folder, where a platform can do that by name (Windows cannot)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

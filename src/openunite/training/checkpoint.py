"""Checkpoints that are written atomically, and verified before they are used.

A checkpoint is a folder of safetensors files, a `state.json`, and a `manifest.json` with the
sha256 of each. It is written under a temporary name, flushed to disk and renamed.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openunite.files import flush, read_json, sha256_of
from openunite.training.sharding import shard_like

FORMAT_VERSION = 1
_NAME = re.compile(r"step-(\d{8})")
_FILE = re.compile(r"\w+\.(safetensors|json)")


class CheckpointError(ValueError):
    """A checkpoint is missing or damaged; an older one may still be usable."""


class NewerFormatError(ValueError):
    """A newer version wrote a checkpoint, so it must be neither skipped nor replaced."""


@dataclass(frozen=True)
class Loaded:
    """A loaded checkpoint: its tensors by file name, and the `state` given to `save_checkpoint`."""

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write folder/step-XXXXXXXX holding one safetensors file per entry of `tensors`.

    Afterwards only the `keep` newest checkpoints up to this step are left. A sound checkpoint of
    the same step is not rewritten, because the step determines its contents. Raises OSError if the
    disk is full or cannot be written, and NewerFormatError if a newer version saved this step;
    earlier checkpoints are untouched in both cases.
    """
    final, temporary = folder / checkpoint_name(step), folder / f".writing-{step:08d}-{os.getpid()}"
    if is_sound(final):
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _write(temporary, step, tensors, state)
        _remove(final)
        os.rename(temporary, final)
        flush(folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):  # safetensors has its own I/O errors
            raise OSError(
                f"cannot write checkpoint {final} ({error}); earlier ones are untouched: mend the "
                "disk and run the same command again"
            ) from error
        raise
    _prune(folder, keep, final)
    return final


def _write(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> None:
    """Write all files of a checkpoint and flush them to disk."""
    for name, group in tensors.items():
        contiguous = {key: value.detach().contiguous() for key, value in group.items()}
        save_file(contiguous, folder / f"{name}.safetensors")
    (folder / "state.json").write_text(json.dumps({**state, "step": step}, indent=1))
    files = {p.name: sha256_of(p) for p in sorted(folder.iterdir())}
    manifest = {"format_version": FORMAT_VERSION, "step": step, "sha256": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    for path in [*folder.iterdir(), folder]:
        flush(path)


def checkpoint_name(step: int) -> str:
    """The folder name of a step; names sort in the order of the steps."""
    return f"step-{step:08d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoint folders, newest first, whether or not they are sound."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def set_aside(folder: Path, step: int) -> None:
    """Rename the checkpoint of a step, if there is one, so that no run resumes from it."""
    path = folder / checkpoint_name(step)
    if path.exists():
        aside = path.with_name(f"useless-{path.name}")
        _remove(aside)
        os.rename(path, aside)


def load_newest(folder: Path) -> tuple[Loaded | None, list[str]]:
    """The newest sound checkpoint, or None, and a message about each newer one that is damaged.

    Every file is hashed once. Raises NewerFormatError if a checkpoint that is tried has a format
    newer than this version can read.
    """
    complaints: list[str] = []
    for path in list_checkpoints(folder):
        try:
            return load_checkpoint(path), complaints
        except CheckpointError as error:
            complaints.append(str(error))
    return None, complaints


def verify(path: Path) -> dict[str, Any]:
    """The manifest, after every checksum matched; raises CheckpointError or NewerFormatError."""
    try:
        manifest = read_json(path / "manifest.json")
        version, sums = manifest["format_version"], manifest["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} has no readable manifest.json; it is ignored") from error
    if type(version) is int and version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path} has format {version}, this openunite reads up to {FORMAT_VERSION} and touches "
            "nothing: upgrade it, or move that folder away to go on from an earlier checkpoint"
        )
    named = isinstance(sums, dict) and all(_FILE.fullmatch(name) for name in sums)
    if version != FORMAT_VERSION or not named or "state.json" not in sums:
        raise CheckpointError(f"{path} has a damaged manifest.json; it is ignored")
    for name, expected in sums.items():
        if not (path / name).is_file() or sha256_of(path / name) != expected:
            raise CheckpointError(f"{path / name} is missing or damaged (sha256 differs)")
    return manifest


def is_sound(path: Path) -> bool:
    """Whether a checkpoint exists and every checksum matches."""
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def load_checkpoint(path: Path) -> Loaded:
    """A checkpoint after every checksum matched; raises CheckpointError or NewerFormatError."""
    names = sorted(verify(path)["sha256"])
    try:
        files = [path / name for name in names if name.endswith(".safetensors")]
        tensors = {file.stem: load_file(file) for file in files}
        return Loaded(path, tensors, read_json(path / "state.json"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); it is ignored") from error


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]
) -> dict[str, Tensor]:
    """The optimizer state as a flat mapping from '<parameter>|<key>' to tensors."""
    return {
        f"{names[parameter]}|{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], saved: Mapping[str, Tensor]
) -> None:
    """Load what `optimizer_tensors` returned into the optimizer, sharded as its parameters are."""
    parameters = {name: parameter for parameter, name in names.items()}
    for key, value in saved.items():
        name, field = key.split("|")
        parameter = parameters[name]
        # All state, even the step counter of the fused AdamW, lives on the parameter's device.
        optimizer.state[parameter][field] = shard_like(value, parameter)


def _prune(folder: Path, keep: int, newest: Path) -> None:
    """Delete all but the `keep` newest checkpoints up to `newest`, and unfinished ones.

    Later checkpoints than `newest` are damaged, because the run resumed before them; they stay.
    """
    for old in [p for p in list_checkpoints(folder) if p.name <= newest.name][keep:]:
        _remove(old)
    for leftover in folder.glob(".writing-*"):
        if not _is_running(leftover.name.rpartition("-")[2]):
            _remove(leftover)


def _remove(path: Path) -> None:
    """Delete a folder or a file; do nothing if there is neither."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    """Whether another process of this machine has this process id; True if that is unknown."""
    if os.name != "posix":  # on Windows, os.kill would end the process
        return process != str(os.getpid())
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return int(process) != os.getpid()

"""Pretrained weights of other projects: found locally or downloaded, and checked before use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from openunite.cache import cache_folder

Shapes = dict[str, tuple[int, ...]]
_COUNTER = "num_batches_tracked"  # a buffer of batch norms that inference does not need


@dataclass(frozen=True)
class WeightFile:
    """A published file of weights; `digest` is the beginning of its sha256."""

    name: str
    url: str
    digest: str


def weights_dir() -> Path:
    """The folder for manually downloaded files: ~/.cache/openunite/weights."""
    return cache_folder() / "weights"


def locate(file: WeightFile, path: str | Path | None = None) -> Path:
    """The path of a file: `path` (or in the folder `path`), else in a cache, else downloaded.

    Raises a FileNotFoundError that says where the file can be put by hand.
    """
    if path:
        given = Path(path).expanduser()
        given = given / file.name if given.is_dir() else given
        if not given.is_file():
            raise FileNotFoundError(f"expected {file.name} at {given}, found no file; correct it")
        return given
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for folder in (weights_dir(), cache):
        if (folder / file.name).is_file():
            return folder / file.name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(file.url, str(cache / file.name), file.digest, progress=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: wrong digest
        raise FileNotFoundError(
            f"{file.name} is not here and could not be had from {file.url} "
            f"({type(error).__name__}); put it into {weights_dir()}, or give its path"
        ) from error
    return cache / file.name


def read_weights(path: Path, expected: Shapes, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors or pickled file (float32, CPU), checked against `expected`.

    Only tensors whose names begin with `prefix` are read; counters of batch norms are left out.
    Pickles are read with weights_only, so no code in them runs. Raises a ValueError that names the
    first tensor that is missing, unknown or of another shape.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: Mapping[str, Tensor] = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling can raise anything
            raise ValueError(
                f"{path} is no file of weights that can be read safely ({type(error).__name__}); "
                "fetch it again"
            ) from error
    found = {
        name: tensor.float()
        for name, tensor in state.items()
        if name.startswith(prefix) and not name.endswith(_COUNTER)
    }
    _check(found, expected, path)
    return found


def shapes_of(build: Callable[[], nn.Module]) -> Shapes:
    """Name and shape of every tensor that `read_weights` expects of a network; needs no memory."""
    with torch.device("meta"):
        state = build().state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith(_COUNTER)}


def _check(found: Mapping[str, Tensor], expected: Shapes, path: Path) -> None:
    fault = ""
    if missing := sorted(expected.keys() - found.keys()):
        fault = f"{len(missing)} tensors are missing, first {missing[0]}"
    elif unknown := sorted(found.keys() - expected.keys()):
        fault = f"{len(unknown)} tensors are unknown, first {unknown[0]}"
    else:
        for name, shape in expected.items():
            if tuple(found[name].shape) != shape:
                fault = f"{name} is {tuple(found[name].shape)}, expected {shape}"
                break
    if fault:
        raise ValueError(f"{path} holds another network: {fault}; give the file named in the docs")

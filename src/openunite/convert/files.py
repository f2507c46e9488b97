"""Safe reading of other programs' weight files, and the sets of weights in them.

A training checkpoint nests several sets of one model's weights (raw, averaged) between optimizer
and scheduler state, under arbitrary names. A set is recognized by two tensor names, the marks.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.torch_version import TorchVersion

WeightSet = Literal["ema", "raw"]
_WRAPPERS = ("module", "_orig_mod")  # name parts of DistributedDataParallel and torch.compile


@dataclass(frozen=True)
class WeightsFile:
    """The sets of weights by prefix of their names, and all other entries: path -> description."""

    sets: dict[str, dict[str, Tensor]]
    rest: dict[str, str]


def read_weights(source: Path, marks: tuple[str, str]) -> WeightsFile:
    """All sets of weights in a .safetensors, .pt or .pth file that contain both `marks`.

    Raises FileNotFoundError if there is no such file, and ValueError for one that is damaged, of
    another type, or a pickle that holds more than plain tensors.
    """
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    tensors: dict[str, Tensor] = {}
    rest: dict[str, str] = {}
    if source.suffix == ".safetensors":
        try:
            _flatten(load_file(source), "", tensors, rest)
        except SafetensorError as error:
            raise ValueError(f"{source} is not a sound safetensors file: {error}") from error
    elif source.suffix in (".pt", ".pth"):
        _flatten(_unpickle(source), "", tensors, rest)
    else:
        raise ValueError(f"expected a .safetensors, .pt or .pth file, got {source.name}")
    return _find_sets(tensors, rest, marks)


def choose_set(file: WeightsFile, weights: WeightSet) -> str:
    """Prefix of the wanted set; a file that is one unnamed set is taken for either kind.

    Raises ValueError unless exactly one set fits.
    """
    nameless = [k for k, what in file.rest.items() if "list" in what and re.search("ema|shadow", k)]
    averaged = [prefix for prefix in file.sets if averaging_of(prefix) == "ema"]
    wanted = averaged if weights == "ema" else [p for p in file.sets if p not in averaged]
    if list(file.sets) == [""] and not nameless:
        wanted = [""]
    if len(wanted) == 1:
        return wanted[0]
    found = ", ".join(map(label_of, file.sets)) or "none"
    if weights == "ema" and nameless:
        raise ValueError(
            f"the averaged weights {nameless[0]!r} are a list without names and cannot be assigned "
            f"safely; expected a dictionary. Sets with names: {found}; --weights raw takes those"
        )
    other = "raw" if weights == "ema" else "ema"
    fix = f"; try --weights {other}" if file.sets and not wanted else ""
    raise ValueError(
        f"expected one set of {weights} weights in the file, got {len(wanted)}; "
        f"sets found: {found}{fix}"
    )


def averaging_of(prefix: str) -> str:
    """ "ema" or "raw", from the prefix of a set of weights; "unknown" if the prefix is empty."""
    if not prefix:
        return "unknown"
    return "ema" if "ema" in prefix.lower() else "raw"


def leftovers(file: WeightsFile, chosen: str) -> dict[str, str]:
    """The other entries of the file, by name, with the reason why they are not used."""
    others = (prefix for prefix in file.sets if prefix != chosen)
    reasons = {prefix.rstrip(".") or "top level": "another set of weights" for prefix in others}
    for path in file.rest:
        reasons.setdefault(path.split(".")[0], "no weights: state of the training run")
    return reasons


def label_of(prefix: str) -> str:
    """A prefix as text for messages."""
    return repr(prefix.rstrip(".")) if prefix else "the top level"


def _unpickle(source: Path) -> Any:
    if TorchVersion(torch.__version__) < "2.10":
        raise ValueError(
            f"reading a pickle needs torch >= 2.10, got {torch.__version__}: older versions can "
            "run code hidden in the file (CVE-2025-32434, CVE-2026-24747); upgrade torch"
        )
    mapped = zipfile.is_zipfile(source)  # the older format cannot be memory-mapped
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged bytes can fail anywhere in the unpickler
        culprit = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it refers to {culprit[1]}" if culprit else str(error).split("\n")[0][:200]
        raise ValueError(
            f"{source} cannot be read as plain tensors ({why}); nothing in it was run. Expected "
            "dictionaries of tensors; ask its author for a .safetensors file"
        ) from error


def _flatten(value: Any, path: str, tensors: dict[str, Tensor], rest: dict[str, str]) -> None:
    """Sort the leaves of nested dictionaries into `tensors` and `rest`, by dotted path."""
    if isinstance(value, Tensor):
        tensors[path] = value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(item, f"{path}.{key}" if path else str(key), tensors, rest)
    else:
        nameless = isinstance(value, list | tuple) and any(isinstance(x, Tensor) for x in value)
        rest[path] = "a list of tensors" if nameless else "not a tensor"


def _find_sets(
    tensors: Mapping[str, Tensor], rest: dict[str, str], marks: tuple[str, str]
) -> WeightsFile:
    plain: dict[str, Tensor] = {}
    for path, tensor in tensors.items():
        name = ".".join(part for part in path.split(".") if part not in _WRAPPERS)
        if name in plain:
            raise ValueError(f"expected one tensor called {name}, got two, one of them {path}")
        plain[name] = tensor
    first, second = marks
    prefixes = [n.removesuffix(first) for n in plain if f".{n}".endswith(f".{first}")]
    # Optimizers may keep moments by parameter name; these look like weights but are not.
    prefixes = [p for p in prefixes if f"{p}{second}" in plain and "optim" not in p.lower()]
    if not prefixes:
        raise ValueError(
            f"expected tensors called {first} and {second}, perhaps nested in dictionaries; got "
            f"{', '.join(list(plain)[:5]) or 'no tensor at all'}"
        )
    sets: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in prefixes}
    for name, tensor in plain.items():
        home = max((p for p in prefixes if name.startswith(p)), key=len, default=None)
        if home is None:
            rest[name] = "a tensor"
        else:
            sets[home][name.removeprefix(home)] = tensor
    return WeightsFile(sets, rest)

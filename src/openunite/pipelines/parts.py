"""Loading of an encoder or decoder whose settings match its weights.

Before memory is allocated, a model with the saved settings is built on the meta device, where
tensors have shapes but no contents, and compared with the headers of the safetensors files.
"""

import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.pipelines.folder import CONFIG, Part, read_object, weights_of

Shapes = dict[str, tuple[int, ...]]
_HEADER = 2**22  # bytes; an entry takes about 120, and the largest model has 1,000 tensors
_TYPES = ("F64", "F32", "F16", "BF16")
_SMALL = 2**20  # sizes and tables up to this number are always allowed


def load_part(folder: Path, kind: Part) -> GenerativeEncoder | Decoder:
    """Load the model in a folder, in evaluation mode and with the saved dtypes.

    Weights in float16 are a compact form for packages and become float32.
    Raises ValueError or FileNotFoundError if settings or weights are missing or damaged, or if they
    do not match.
    """
    settings, files = _read_settings(folder / CONFIG, kind), weights_of(folder)
    shapes: Shapes = {}
    for file in files:
        shapes |= read_shapes(file)
    _compare(folder, kind, settings, shapes)
    with _Unfilled():
        model = kind(**settings)
    try:
        tensors = {name: value for file in files for name, value in load_file(file).items()}
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"the weights in {folder} are damaged ({error}); copy them again"
        ) from error
    half = torch.float16
    tensors = {k: v.float() if v.dtype == half else v for k, v in tensors.items()}
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def read_shapes(file: Path) -> Shapes:
    """The shape of each tensor, read from the header only. Raises ValueError if it is damaged."""
    damaged = f"{file} is no safetensors file, or damaged; copy the pipeline again"
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(length) if length <= _HEADER else b""
    try:
        entries = {n: e for n, e in json.loads(header).items() if n != "__metadata__"}
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        kinds = {entry["dtype"] for entry in entries.values()}
        sizes = [size for shape in shapes.values() for size in shape]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(damaged) from error
    if not kinds <= {*_TYPES} or not all(type(size) is int and size >= 0 for size in sizes):
        raise ValueError(damaged)
    if sum(map(math.prod, shapes.values())) > file.stat().st_size:
        raise ValueError(damaged)
    return shapes


def _read_settings(path: Path, kind: Part) -> dict[str, Any]:
    """The constructor arguments of the model. Raises ValueError for unknown or wrong ones."""
    config = read_object(path)
    if config.get("_class_name", kind.__name__) != kind.__name__:
        raise ValueError(
            f"{path} is of a {config['_class_name']!r:.100}, model_index.json names a "
            f"{kind.__name__}; copy the pipeline again"
        )
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    expected = {n: p for n, p in inspect.signature(kind.__init__).parameters.items() if n != "self"}
    if unknown := settings.keys() - expected.keys():
        raise ValueError(f"{path} has settings no {kind.__name__} has: {sorted(unknown)!r:.200}")
    for name, parameter in expected.items():
        if name not in settings and parameter.default is parameter.empty:
            raise ValueError(f"{path} lacks {name}, which a {kind.__name__} needs")
        if name in settings and not _is_of(settings[name], parameter.annotation):
            raise ValueError(
                f"{path}: {name} is {settings[name]!r:.100}, which a {kind.__name__} cannot have"
            )
    return settings


def _is_of(value: Any, annotation: Any) -> bool:
    """Whether a setting has its declared type; negative ints are not allowed, True is no int."""
    if isinstance(value, bool):
        return annotation is bool
    if isinstance(value, int) and value < 0:
        return False
    if get_origin(annotation) is UnionType:
        return any(_is_of(value, kind) for kind in get_args(annotation))
    return isinstance(value, get_origin(annotation) or annotation)


def _compare(folder: Path, kind: Part, settings: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise ValueError unless a model with these settings has tensors of exactly these shapes."""
    held = max(_SMALL, sum(map(math.prod, shapes.values())))
    wrong = f"{folder / CONFIG} does not fit the weights beside it"
    depth, sizes = settings["depth"], [*settings.values(), *settings["modality_config"].values()]
    if depth > len(shapes) or any(isinstance(n, int | float) and n > held for n in sizes):
        raise ValueError(f"{wrong}: it asks for a larger model; copy the pipeline again")
    try:
        with torch.device("meta"):
            sketch = kind(**settings)
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{folder / CONFIG} describes no {kind.__name__} ({why:.300})") from error
    asked: Shapes = {name: tuple(value.shape) for name, value in sketch.state_dict().items()}
    for name in sorted({*asked, *shapes}):
        if asked.get(name) != shapes.get(name):
            there, expected = shapes.get(name, "missing"), asked.get(name, "nothing")
            raise ValueError(
                f"{wrong}: tensor {name:.100} is {there}, expected {expected}; copy the pipeline "
                "again"
            )
    if sum(table.numel() for table in sketch.buffers()) > 8 * held:
        raise ValueError(f"{wrong}: it asks for larger tables than such a model can use")


class _Unfilled(TorchFunctionMode):
    """A context in which parameters take no memory or time, while tables are still computed."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Tensor:
        kwargs = {**(kwargs or {}), "device": "meta"} if func is torch.empty else kwargs or {}
        result: Tensor = func(*args, **kwargs)
        return result

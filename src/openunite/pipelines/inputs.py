"""What people give to pipelines, as the pipelines take it; one sentence refuses the rest."""

import inspect
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from openunite.settings import expected

Labels = Sequence[int | str] | Tensor | np.ndarray | int | str | None
Seeds = Sequence[int] | Tensor | np.ndarray | int
Generators = torch.Generator | Sequence[torch.Generator]
_SEEDS = (-(2**63), 2**63 - 1)
# Names of arguments elsewhere, of which the most similar name here is another.
_MEANT = {"prompt": "class_labels", "steps": "num_inference_steps", "cfg": "guidance_scale"}


def whole_number(name: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """An integer of any package as an int. ValueError for anything else, and outside the range."""
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        words = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {words}, got {value!r:.100}")
    return number


def refuse_unknown(given: Iterable[str], call: Callable, others: Iterable[str]) -> None:
    """ValueError for an argument that is neither one of the function's nor among `others`.

    The message names the function, which is the one that the user called, and the nearest argument.
    """
    own = [name for name in inspect.signature(call).parameters if name not in ("self", "options")]
    known = dict.fromkeys([*own, *others])
    for name in given:
        if name not in known:
            called = call.__qualname__.removesuffix(".__call__")
            meant = _MEANT.get(name, name)
            raise ValueError(f"{called} takes no argument {name!r}, {expected(meant, known)}")


def count_of(name: str, number: Any, *given: Any, default: int = 1) -> int:
    """The number of samples: `number`, else what the first list decides, else `default`.

    `given` holds labels, seeds and generators. ValueError for a list that is empty.
    """
    if number is not None:
        return whole_number(name, number)
    count = next((len(each) for each in given if _is_list(each)), default)
    if count == 0:
        raise ValueError(f"an empty list asks for no sample; leave it out, or give {name}")
    return count


def one_each(what: str, given: Any, count: int) -> list[Any]:
    """`count` values: those of a list, an array or a tensor, or one value as often as needed."""
    if isinstance(given, Tensor | np.ndarray):
        if given.ndim > 1 and tuple(given.shape[1:]) != (1,) * (given.ndim - 1):
            raise ValueError(f"expected one {what} per sample, got shape {tuple(given.shape)}")
        given = given.reshape(-1).tolist() if given.ndim else given.item()
    if not _is_list(given):
        return [given] * count
    if len(given) != count:
        raise ValueError(
            f"expected one {what} per sample, got {len(given)} for {count}; a value that is not in "
            "a list stands for all of them"
        )
    return list(given)


def class_indices(labels: Any, count: int, num_classes: int, names: Sequence[str]) -> list[int]:
    """Classes by name or by index, one per sample. ValueError for one that the model lacks."""
    given = one_each("class label", labels, count)
    if num_classes == 0:
        raise ValueError(
            f"class label {given[0]!r:.100} is out of range: this model has 0 classes; leave "
            "class_labels out"
        )
    if unknown := [x for x in given if isinstance(x, str) and x not in names]:
        raise ValueError(f"unknown class {unknown[0]!r}, expected one of {list(names)}")
    found = [
        names.index(x) if isinstance(x, str) else whole_number("a class label", x, 0) for x in given
    ]
    if max(found) >= num_classes:
        raise ValueError(
            f"class label {max(found)} is out of range: this model has {num_classes} classes"
        )
    return found


def seeds_of(count: int, generator: Any, seeds: Any) -> Int[Tensor, " b"]:
    """One 64-bit seed per sample, given or drawn. ValueError for both, and for other numbers."""
    if seeds is not None:
        if generator is not None:
            raise ValueError("seeds and generator exclude each other; leave one of them out")
        if count > 1 and not _is_list(seeds):
            raise ValueError(f"expected one seed per sample, got 1 for {count}; give a list")
        return torch.tensor(
            [whole_number("a seed", x, *_SEEDS) for x in one_each("seed", seeds, count)],
            dtype=torch.int64,
        )
    given = [generator] if generator is None or not _is_list(generator) else list(generator)
    if wrong := [g for g in given if not isinstance(g, torch.Generator | None)]:
        kind = type(wrong[0]).__name__
        raise ValueError(f"expected a torch.Generator, or one per sample, got a {kind}")
    if len(given) == 1 and not _is_list(generator):
        device = generator.device if generator is not None else "cpu"
        return torch.randint(2**63 - 1, (count,), generator=generator, device=device).cpu()
    if len(given) != count:
        raise ValueError(f"expected one generator per sample, got {len(given)} for {count}")
    drawn = (torch.randint(2**63 - 1, (), generator=g, device=g.device) for g in given)
    return torch.tensor([int(seed) for seed in drawn])


def read_latents(
    latents: Any, shape: tuple[int, int], mask: Bool[Tensor, "b k"] | None = None
) -> Tensor:
    """Latents as a tensor (B, K, C). ValueError for another shape, and for NaN and infinity."""
    if isinstance(latents, np.ndarray):
        latents = torch.from_numpy(latents)
    registers = shape[0] if mask is None else mask.shape[-1]
    wanted = f"latents (B, {registers}, {shape[1]})"
    if not isinstance(latents, Tensor):
        raise ValueError(f"expected {wanted} as `encode` returns, got a {type(latents).__name__}")
    if latents.ndim != 3 or tuple(latents.shape[1:]) != (registers, shape[1]) or not len(latents):
        raise ValueError(f"expected {wanted}, got shape {tuple(latents.shape)}")
    if not latents.is_floating_point():
        raise ValueError(f"expected {wanted} of floats, got {latents.dtype}")
    if not bool(latents.isfinite().all()):
        raise ValueError("latents hold NaN or infinity; no decoder has an answer to those")
    return latents


def check_settings(class_names: Any, size_histogram: Any) -> tuple[list[str], list[Any]]:
    """Both settings as lists. Raises ValueError if one of them is impossible."""
    names, sizes = class_names or (), size_histogram or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of names, got {names!r:.100}")
    if not isinstance(sizes, list | tuple) or not all(_is_counts(row) for row in sizes):
        raise ValueError(f"size_histogram must be counts of at least 0, got {sizes!r:.100}")
    return list(names), list(sizes)


def _is_counts(row: Any) -> bool:
    """Whether `row` is a count, or a list of counts for one class."""
    return all(type(n) is int and n >= 0 for n in (row if isinstance(row, list | tuple) else [row]))


def _is_list(given: Any) -> bool:
    """Whether this is a list of values, not one value or none."""
    if isinstance(given, Tensor | np.ndarray):
        return given.ndim > 0
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)

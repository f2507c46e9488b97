"""What this installation knows by name: modalities and their recipes. No torch here.

A modality is a slice: one folder (or one module of another package) that holds everything about
one kind of data. Its `ModalitySpec` says where the parts are, and each part is imported when it is
needed. Another package adds one with an entry point of the group `openunite.modalities`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from openunite.registry import Registry


@dataclass(frozen=True)
class ModalitySpec:
    """Where the parts of a modality are, each as "module:attribute".

    `modality` is its `Modality` (both ends of the model and the loss), `pipeline` its subclass of
    `UnitePipeline`, `task` its `Task` (data, files, pictures, metrics). `recipes` are functions
    that return a `RunConfig`, by name; their docstrings state cost and expected numbers.
    """

    name: str
    modality: str
    pipeline: str
    task: str
    recipes: Mapping[str, str]

    def load(self, part: str) -> Any:
        """The object behind `modality`, `pipeline` or `task`."""
        return load(getattr(self, part))


MODALITIES = Registry(
    "openunite.modalities",
    {n: f"openunite.modalities.{n}:SPEC" for n in ("image", "molecule", "crystal", "joint")},
)


def load(reference: str) -> Any:
    """The object of a reference "module:attribute"."""
    return EntryPoint(reference, reference, "").load()


@cache
def get_spec(name: str) -> ModalitySpec:
    """The modality called `name`. ValueError for one that no installed package has."""
    found: ModalitySpec = MODALITIES.get(name)
    return found


@cache
def recipes() -> dict[str, str]:
    """The recipes of all modalities: name -> "module:function"."""
    found: dict[str, str] = {}
    for name in MODALITIES.names():
        found |= {k: v for k, v in get_spec(name).recipes.items() if k not in found}
    return found


def get_recipe(name: str) -> Callable[[], Any]:
    """A function that returns a `RunConfig`: a recipe by name, or "package.module:function".

    ValueError lists the recipes there are.
    """
    known = recipes()
    if name in known:
        found: Callable[[], Any] = load(known[name])
        return found
    if ":" in name:
        try:
            found = load(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"recipe {name} could not be imported ({error})") from error
        return found
    raise ValueError(
        f"unknown recipe {name!r}, expected one of {', '.join(known)}, or package.module:function; "
        "for your own images: openunite train images --data FOLDER"
    )

"""The installed modalities and their recipes, by name. No torch here.

A modality is one folder (or one module of another package) with all code for one kind of data. Its
`ModalitySpec` says where the parts are, and each part is imported when it is needed. Another
package adds a modality with an entry point of the group `openunite.modalities`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from openunite.registry import Registry


@dataclass(frozen=True)
class ModalitySpec:
    """The parts of a modality, each as "module:attribute".

    `modality` is a subclass of `Modality` (both ends of the model, and the loss), `pipeline` one of
    `UnitePipeline`, and `task` one of `Task` (data, files, pictures, metrics). `recipes` are
    functions by name that return a `RunConfig`; their docstrings state cost and expected results.
    """

    name: str
    modality: str
    pipeline: str
    task: str
    recipes: Mapping[str, str]

    def load(self, part: str) -> Any:
        """Import the class of `modality`, `pipeline` or `task`."""
        return load(getattr(self, part))


MODALITIES = Registry(
    "openunite.modalities",
    {n: f"openunite.modalities.{n}:SPEC" for n in ("image", "molecule", "crystal", "joint")},
)


def load(reference: str) -> Any:
    """Import the object of a reference "module:attribute"."""
    return EntryPoint(reference, reference, "").load()


@cache
def get_spec(name: str) -> ModalitySpec:
    """The spec of the modality `name`. Raises ValueError if no installed package has it."""
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

    Raises a ValueError that lists the known recipes.
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

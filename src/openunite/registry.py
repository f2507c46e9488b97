"""Registries of objects by name: built-in ones, and those of other installed packages.

Another package registers an object by an entry point, here an extractor, in its pyproject.toml

    [project.entry-points."openunite.extractors"]
    mine = "my_package.features:load_mine"

and `mine` is then a name like the built-in ones. Modules are imported when a name is looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any


@dataclass(frozen=True)
class Registry:
    """Objects by name: `builtins` ("module:attribute"), then the entry points of `group`.

    An entry point cannot take the name of a built-in.
    """

    group: str
    builtins: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """All names, with the built-in ones first."""
        return tuple(dict.fromkeys([*self.builtins, *sorted(self._installed())]))

    def get(self, name: str) -> Any:
        """Import and return the object called `name`.

        Raises ValueError for an unknown name, with the nearest known one, and ImportError if the
        package that registered the name cannot be imported.
        """
        if name in self.builtins:
            return EntryPoint(name, self.builtins[name], self.group).load()
        entry = self._installed().get(name)
        if entry is None:
            raise ValueError(self._unknown(name))
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            package = entry.dist.name if entry.dist else "another package"
            raise ImportError(
                f"{name!r} of {package} could not be loaded from {entry.value} ({error}); mend or "
                "uninstall that package"
            ) from error

    def _installed(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _unknown(self, name: str) -> str:
        known, kind = self.names(), self.group.rpartition(".")[2]
        nearest = get_close_matches(name, known, 1, cutoff=0.0)
        hint = f"the nearest is {nearest[0]!r}, or " if nearest else ""
        return (
            f"expected one of the {kind} {', '.join(known)}, got {name!r}; {hint}install the "
            f"package that adds {name!r}"
        )

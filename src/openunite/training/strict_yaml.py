"""A strict YAML reader for config.yaml that rejects malformed or hostile files quickly."""

import re
from pathlib import Path
from typing import Any

import yaml

from openunite.settings import short

MOST_BYTES = 100_000  # a usual config.yaml has about 3,000


class _Loader(yaml.SafeLoader):
    """A YAML loader that rejects aliases and duplicate keys, and reads 1e-3 as a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "an alias (*) is not allowed here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names: set[str] = set()
        for name in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if name in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{short(name)} is given twice", node.start_mark
                )
            names.add(name)
        found = super().construct_mapping(node, deep)
        if others := [key for key in found if not isinstance(key, str)]:
            raise yaml.constructor.ConstructorError(
                None, None, f"a name must be text, got {short(others[0])}", node.start_mark
            )
        return found


# YAML 1.1 requires a dot and a signed exponent, and would read 7e-3 and 1.0e10 as text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a plain YAML file. Raises ValueError with a short message otherwise."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is no file of settings: it has more than {MOST_BYTES:,} bytes")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except RecursionError as error:
        raise ValueError(f"{path} is no file of settings: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bad UTF-8, numbers or dates
        reason = ", ".join(str(error).split("\n")[:2]).replace("  in ", " ")
        raise ValueError(f"{path} is not plain YAML: {reason}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping of run settings, got {type(values).__name__}")
    return values

"""Reading a config.yaml: plain YAML, strictly, and at once whatever the file holds."""

import re
from pathlib import Path
from typing import Any

import yaml

from openunite.settings import short

MOST_BYTES = 100_000  # a config.yaml has about 3,000


class _Loader(yaml.SafeLoader):
    """Plain YAML without aliases and keys given twice, in which 1e-3 is a number."""

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


# YAML 1.1 wants a dot and a sign, and takes 7e-3 and 1.0e10 for text.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a file of plain YAML. ValueError, short and at once, for anything else."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is no file of settings: it has more than {MOST_BYTES:,} bytes")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except RecursionError as error:
        raise ValueError(f"{path} is no file of settings: it is nested too deeply") from error
    except (yaml.YAMLError, ValueError) as error:  # the latter of bytes, numbers and dates
        reason = ", ".join(str(error).split("\n")[:2]).replace("  in ", " ")
        raise ValueError(f"{path} is not plain YAML: {reason}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a mapping of run settings, got {type(values).__name__}")
    return values

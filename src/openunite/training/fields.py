"""From plain values, as YAML has them, to dataclasses; what is wrong is named."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

_repr = Repr()
_repr.maxlevel = 2
short = _repr.repr  # a message stays short, whatever the value is
MOST_BYTES = 100_000  # a config.yaml has about 3,000
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


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


def build(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A dataclass from plain values. ValueError names an unknown, missing or mistyped field."""
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cls)}
    if unknown := sorted(values.keys() - known):
        raise ValueError(
            f"unknown field {prefix}{short(unknown[0]).strip(chr(39))}, expected some of "
            f"{sorted(known)}"
        )
    try:
        return cls(**{k: convert(hints[k], v, prefix + k) for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"{prefix or 'run '}settings are incomplete: {error}") from error


def convert(hint: Any, value: Any, name: str) -> Any:
    """`value` as the annotated type; int passes for float, list for tuple, nothing else bends."""
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return build(hint, value, f"{name}.")
    if get_origin(hint) in (Union, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        return convert(next(a for a in get_args(hint) if a is not NoneType), value, name)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = get_args(hint)
        if kinds[-1] is not Ellipsis and len(value) != len(kinds):
            raise ValueError(f"{name} must be {len(kinds)} values, got {short(value)}")
        return tuple(convert(kinds[0], item, name) for item in value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(
                f"{name} must be one of {', '.join(get_args(hint))}, got {short(value)}"
            )
        return value
    if hint is float and type(value) is int:
        return float(value) if abs(value) < 1 << 1000 else math.inf
    expected = get_origin(hint) or hint
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        words = (
            "a mapping" if is_dataclass(hint) or expected is dict else _WORDS.get(hint, "a list")
        )
        raise ValueError(f"{name} must be {words}, got {short(value)}")
    return value


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat

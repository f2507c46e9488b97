"""Conversion of plain values from files and command lines into dataclasses of settings."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from difflib import get_close_matches
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SHOWN = 40  # names that an error message lists
_repr = Repr()
_repr.maxlevel = 2
short = _repr.repr  # repr() for error messages, shortened


def build(cls: type, values: Mapping[str, Any], prefix: str = "", what: str = "field") -> Any:
    """Build a dataclass from a mapping of its fields.

    Raises ValueError for a field that is unknown (with the nearest one), missing or of another
    type. In messages, `prefix` is put before names, and `what` is the word for a field.
    """
    hints, known = get_type_hints(cls), {f.name: f for f in fields(cls)}
    for name in sorted(str(name)[:60] for name in set(values) - set(known)):
        raise ValueError(f"unknown {what} {prefix}{name}, {expected(name, known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [prefix + name for name in needed if name not in values]:
        raise ValueError(f"{what}s are missing: {', '.join(missing)}")
    return cls(**{k: convert(hints[k], value, prefix + k) for k, value in values.items()})


def missing_fields(cls: type, values: Mapping[str, Any]) -> list[str]:
    """The names of required fields that a mapping lacks."""
    required = (f for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)
    return [f.name for f in required if f.name not in values]


def expected(name: str, known: Collection[str]) -> str:
    """The end of an error message: the known names, and the nearest one to `name`."""
    nearest = get_close_matches(name, known, 1, cutoff=0.0)
    shown = ", ".join(sorted(known)[:_SHOWN]) + ", ..." * (len(known) > _SHOWN)
    return f"expected some of {shown}" + (f"; the nearest is {nearest[0]}" if nearest else "")


def check_options(given: Iterable[str], kind: type, leave_out: Collection[str] = ()) -> None:
    """Raise ValueError for an option that is no field of `kind`, or one of those to leave out."""
    known = {f.name: f for f in fields(kind) if f.name not in leave_out}
    for name in given:
        if name not in known:
            raise ValueError(f"unknown option {name}, {expected(name, known)}")


def convert(hint: Any, value: Any, name: str) -> Any:
    """Check or convert `value` to type `hint`: an int may be a float, and a list a tuple."""
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
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value) if abs(value) < 1 << 1000 else math.inf
    wanted = get_origin(hint) or hint
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ValueError(f"{name} must be {_words(hint)}, got {short(value)}")
    return value


def _words(hint: Any) -> str:
    """The name of a type in error messages."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, str(getattr(hint, "__name__", hint)))


def assign(settings: Any, assignments: Sequence[str], schemas: Mapping[str, type]) -> Any:
    """A copy of nested dataclasses with fields replaced by assignments such as "model.depth=6".

    Values are parsed by the type of their field: "none" means None, and commas separate the values
    of a tuple. For a field that holds a mapping, `schemas` gives by the field's name a dataclass
    with the possible keys. Raises ValueError for an unknown name, with the nearest known one, and
    for a value of another type.
    """
    given: dict[tuple[str, ...], str] = {}
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator or not name.strip():
            raise ValueError(f"expected section.field=value, got {text!r}")
        given[tuple(name.strip().split("."))] = value.strip()
    return _assign(settings, given, "", schemas)


def _assign(
    settings: Any, given: Mapping[tuple[str, ...], str], prefix: str, schemas: Mapping[str, type]
) -> Any:
    """All fields change at once, because some values are only possible together."""
    hints, changes = get_type_hints(type(settings)), {}
    for first in dict.fromkeys(path[0] for path in given):
        if first not in hints:
            raise ValueError(f"unknown field {prefix}{first}, {expected(first, hints)}")
        inner = {path[1:]: text for path, text in given.items() if path[0] == first}
        value, name = getattr(settings, first), prefix + first
        section = is_dataclass(value) or isinstance(value, Mapping)
        if section and () in inner:
            raise ValueError(f"{name} is a section: name one of its fields, {name}.FIELD=value")
        if is_dataclass(value):
            changes[first] = _assign(value, inner, f"{name}.", schemas)
        elif section:
            changes[first] = {**value, **_entries(inner, name, schemas.get(name))}
        elif extra := [".".join(rest) for rest in inner if rest]:
            raise ValueError(f"{name} is no section: it has no field {extra[0]}")
        else:
            changes[first] = parse(hints[first], inner[()], name)
    return replace(settings, **changes)


def _entries(
    given: Mapping[tuple[str, ...], str], name: str, schema: type | None
) -> dict[str, Any]:
    """The values for a field that holds a mapping; without a schema they are numbers."""
    known = get_type_hints(schema) if schema else {}
    found = {}
    for path, text in given.items():
        key = ".".join(path)
        if len(path) > 1:
            raise ValueError(f"{name} is no section: it has no field {key}")
        if schema is not None and key not in known:
            raise ValueError(f"unknown field {name}.{key}, {expected(key, known)}")
        found[key] = parse(known.get(key, float), text, f"{name}.{key}")
    return found


def parse(hint: Any, text: str, name: str) -> Any:
    """Parse text as a value of type `hint`. Raises a ValueError that begins with `name`."""
    if get_origin(hint) in (Union, UnionType):
        if text.lower() in ("none", "null") and NoneType in get_args(hint):
            return None
        return parse(next(a for a in get_args(hint) if a is not NoneType), text, name)
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return convert(hint, [parse(kinds[0], part, name) for part in parts], name)
    if hint is bool:
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if text.lower() not in words:
            raise ValueError(f"{name} must be true or false, got {text!r}")
        return words[text.lower()]
    if hint in (int, float):
        try:
            return convert(hint, hint(text), name)
        except ValueError as error:
            raise ValueError(f"{name} must be {_words(hint)}, got {text!r}") from error
    return convert(hint, text, name)

"""Settings of a pipeline that describe its data: class names and sizes."""

from typing import Any


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

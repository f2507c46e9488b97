"""What a pipeline remembers of its data, beside how it samples."""

from typing import Any


def check_settings(class_names: Any, size_histogram: Any) -> tuple[list[str], list[Any]]:
    """Both settings as lists. ValueError names the one that no pipeline can have."""
    names, sizes = class_names or (), size_histogram or ()
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names must be a list of names, got {names!r:.100}")
    if not isinstance(sizes, list | tuple) or not all(_is_counts(row) for row in sizes):
        raise ValueError(f"size_histogram must be counts of at least 0, got {sizes!r:.100}")
    return list(names), list(sizes)


def _is_counts(row: Any) -> bool:
    """Whether this is a count, or the counts of one class."""
    return all(type(n) is int and n >= 0 for n in (row if isinstance(row, list | tuple) else [row]))

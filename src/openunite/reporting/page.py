"""The contents of a report; `report.html.j2` renders them as HTML without scripts or requests."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from openunite.texts import printable

Values = Mapping[str, Any]

UNDEFINED = "undefined"  # shown for a number that could not be computed
_FORMATS = ("PNG", "GIF", "JPEG")
_MAX_ITEMS = 12  # shown of a list in a table


@dataclass(frozen=True)
class Picture:
    """A picture as a data URL, empty if the file is damaged; dark mode inverts charts."""

    name: str
    source: str
    size: tuple[int, int]
    caption: str
    chart: bool

    @classmethod
    def load(cls, path: Path, caption: str = "", *, chart: bool = False) -> "Picture":
        """The picture of a file, which may be missing or damaged."""
        try:
            data = path.read_bytes()
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                image.load()  # a truncated file fails here, not in open()
                mime, size = Image.MIME[str(image.format)], image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return cls(path.name, "", (0, 0), caption, chart)
        source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
        return cls(path.name, source, size, caption, chart)


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows; `label` is for screen readers."""

    label: str
    rows: Sequence[Sequence[Any]]
    head: Sequence[str] = ()

    @property
    def cells(self) -> list[list[tuple[str, bool]]]:
        """Rows of (text, whether the column is numeric), the head first."""
        rows = [[shown(value) for value in row] for row in self.rows]
        columns = list(zip(*rows, strict=True))
        numeric = [False, *(all(map(_is_number, column)) for column in columns[1:])]
        head = self.head or [""] * len(numeric)
        return [list(zip(row, numeric, strict=True)) for row in (head, *rows)]


@dataclass(frozen=True)
class Card:
    """A protocol card or a sweep."""

    warnings: Sequence[str]
    tables: Sequence[Table]


def render(page: Values) -> str:
    """The HTML of a page; its template names the entries that `page` must have.

    All text is escaped, and control characters are made visible.
    """
    environment = Environment(
        loader=PackageLoader("openunite", "reporting"),
        autoescape=True,
        finalize=lambda x: x if isinstance(x, Markup) else printable(str(x), keep="\n\t"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page=page, shown=shown)


def shown(value: Any) -> str:
    """A value as text: four digits, grouped thousands, "none" for None and empty lists."""
    if value is None or value in ([], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else UNDEFINED
    if isinstance(value, list | tuple):
        some = ", ".join(shown(item) for item in value[:_MAX_ITEMS])
        return some + (f", ... ({len(value)})" if len(value) > _MAX_ITEMS else "")
    return str(value)


def _is_number(text: str) -> bool:
    return text.removeprefix("-")[:1].isdigit() or text in ("", UNDEFINED)

"""Pieces of a self-contained HTML page: no scripts, no requests, everything escaped."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

_KINDS = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg"}
_MOST_ITEMS = 12  # of a list in a table
UNDEFINED = "undefined"  # a number that could not be taken

# Even a picture that an edited page might name could not be fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, summary: str, sections: Mapping[str, str], foot: str) -> str:
    """A whole document; `sections` are headings and their HTML; empty ones are left out."""
    kept = {name: body for name, body in sections.items() if body}
    links = "".join(f'<li><a href="#{_anchor(name)}">{escape(name)}</a></li>' for name in kept)
    body = "\n".join(
        f'<section id="{_anchor(name)}">\n<h2>{escape(name)}</h2>\n{content}\n</section>'
        for name, content in kept.items()
    )
    style = files("openunite.report").joinpath("assets/report.css").read_text()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{summary}
<nav aria-label="Contents"><ul>{links}</ul></nav>
</header>
<main>
{body}
</main>
<footer>{foot}</footer>
</body>
</html>
"""


def heading(text: str) -> str:
    """Of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    """Escaped text."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def tiles(values: Mapping[str, tuple[str, str]]) -> str:
    """A few numbers, large, each with a note below it."""
    pairs = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        f'<dd class="note">{escape(note)}</dd></div>'
        for name, (value, note) in values.items()
    )
    return f'<dl class="tiles">{"".join(pairs)}</dl>' if values else ""


def picture(path: Path, alt: str, caption: str = "", *, chart: bool = False) -> str:
    """A file's picture, inlined; charts are drawn light on dark where the reader prefers that.

    In the place of one that is missing or damaged, a sentence says so.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()  # a file that was cut off opens all the same
            width, height = image.size
    except (OSError, SyntaxError):
        return paragraph(f"{path.name} is left out: it is no picture that can be read.", "warning")
    source = f"data:{_KINDS[path.suffix]};base64,{base64.b64encode(data).decode()}"
    kind = ' class="chart"' if chart else ""
    image_tag = f'<img{kind} src="{source}" alt="{escape(alt)}" width="{width}" height="{height}">'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{image_tag}{below}</figure>"


def table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", label: str = ""
) -> str:
    """Rows whose first cell names them; scrolls sideways where it does not fit.

    `label` is for those who hear the page, where there is no caption.
    """
    if not rows:
        return ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    cells = [[shown(value) for value in row] for row in rows]
    numeric = [
        all(text.removeprefix("-")[:1].isdigit() or text in ("", UNDEFINED) for text in column)
        for column in zip(*cells, strict=True)
    ]
    kinds = [' class="number"' if number else "" for number in numeric[1:]]
    pairs = zip(head, ["", *kinds], strict=True)
    columns = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in pairs)
    top = f"<thead><tr>{columns}</tr></thead>" if any(head) else ""
    body = ""
    for name, *values in cells:
        line = "".join(
            f"<td{kind}>{escape(text)}</td>" for kind, text in zip(kinds, values, strict=True)
        )
        body += f'<tr><th scope="row">{escape(name)}</th>{line}</tr>'
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption or label)}">'
        f"<table>{title}{top}<tbody>{body}</tbody></table></div>"
    )


def folded(title: str, text: str) -> str:
    """Preformatted text behind a line to click."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def shown(value: Any) -> str:
    """A value as a reader wants it: four digits, thousands apart, words for what is none."""
    if value is None or value in ([], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else UNDEFINED
    if isinstance(value, list | tuple):
        some = ", ".join(shown(item) for item in value[:_MOST_ITEMS])
        return some + (f", ... ({len(value)})" if len(value) > _MOST_ITEMS else "")
    return str(value)


def _anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())

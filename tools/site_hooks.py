"""Parts of the site that are written when it is built: the help of every command."""

import subprocess
import sys
from typing import Any

from openunite.commands import COMMANDS

MARK = "<!-- help of every command -->"
FILES = ("evaluate images", "evaluate molecules")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark in commands.md."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(map(_section, (*COMMANDS, *FILES))))


def _section(name: str) -> str:
    command = [sys.executable, "-m", "openunite", *name.split(), "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"## openunite {name}\n\n```text\n{text.rstrip()}\n```"

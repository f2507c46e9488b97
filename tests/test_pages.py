"""What README and the pages of the site tell people to type can be typed."""

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from openunite.cli import parse

HOME = Path(__file__).parents[1]
# LOG.md tells what was typed at its time, and is not for copying.
PAGES = [HOME / "README.md", *sorted(p for p in (HOME / "docs").rglob("*.md") if p.stem != "LOG")]
COMMAND = re.compile(r"^ {4,}(openunite .*(?:\\\n.*)*)$", re.MULTILINE)
INLINE = re.compile(r"`(openunite [a-z-]+ [^`]*--[^`]*)`")
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The commands of a page, in code blocks and in sentences."""
    text = page.read_text()
    found = [*COMMAND.findall(text), *INLINE.findall(text)]
    return [line.split(" #")[0].replace("\\\n", " ").split(" | ")[0] for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_command_of_a_page_is_understood(page: Path) -> None:
    refused = []
    for command in commands(page):
        arguments = shlex.split(command)[1:]
        if "--help" in arguments or "..." in command:
            continue
        try:
            parse(arguments)
        except SystemExit:
            refused.append(command)
    assert refused == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_of_a_page_compiles_and_imports_what_there_is(page: Path) -> None:
    for block in PYTHON.findall(page.read_text()):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("openunite"):
                module = import_module(str(node.module))
                assert [a.name for a in node.names if not hasattr(module, a.name)] == []


def test_the_pages_hold_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 50


def test_the_tests_with_the_lowest_versions_exist() -> None:
    text = (HOME / "tools" / "test_lowest.py").read_text()
    named = re.findall(r'"(tests/[\w/.]+)"', text)
    assert named
    assert [name for name in named if not (HOME / name).exists()] == []

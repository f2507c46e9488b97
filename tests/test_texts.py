"""Texts name modules that exist, and the tree in DESIGN.md has all of the package."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).parents[1]
PACKAGE = HOME / "src" / "openunite"


def test_modules_that_texts_name_exist() -> None:
    texts = [*PACKAGE.rglob("*.py"), HOME / "README.md", *(HOME / "docs").glob("*.md")]
    found = {n for t in texts for n in re.findall(r"`(openunite(?:\.\w+)+)", t.read_text())}
    assert found
    assert not [name for name in found if not exists(name)]


def exists(name: str) -> bool:
    """Whether this is a module, something in one, or a group of entry points."""
    if any(re.search(rf'Registry\(\s*"{name}"', t.read_text()) for t in PACKAGE.rglob("*.py")):
        return True
    home, _, last = name.rpartition(".")
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # its home is no package
        return hasattr(import_module(home), last)


def test_the_tree_of_the_package_is_whole() -> None:
    tree = (HOME / "docs" / "DESIGN.md").read_text().split("## Where things are")[1].split("## ")[0]
    parts = {f"{path.name}/" for path in PACKAGE.glob("[a-z]*/")}
    parts |= {path.name for path in PACKAGE.glob("[a-z]*.py")}
    assert {"training/", "cli.py"} <= parts
    assert not {part for part in parts if f" {part}" not in tree}

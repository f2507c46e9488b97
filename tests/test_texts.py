"""Texts name modules that exist, and README's tree has all of the package."""

import re
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).parents[1]
PACKAGE = HOME / "src" / "openunite"


def test_modules_that_texts_name_exist() -> None:
    texts = [*PACKAGE.rglob("*.py"), HOME / "README.md", *(HOME / "docs").glob("*.md")]
    found = {n for t in texts for n in re.findall(r"`(openunite(?:\.\w+)+)", t.read_text())}
    assert found
    assert not [name for name in found if find_spec(name) is None]


def test_the_tree_of_the_readme_is_whole() -> None:
    tree = (HOME / "README.md").read_text().split("## Where things are")[1].split("## ")[0]
    parts = {f"{path.name}/" for path in PACKAGE.glob("[a-z]*/")}
    parts |= {path.name for path in PACKAGE.glob("[a-z]*.py")}
    assert {"training/", "cli.py"} <= parts
    assert not {part for part in parts if f" {part}" not in tree}

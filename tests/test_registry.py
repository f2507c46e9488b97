import sys

import pytest

from openunite.registry import Registry

CODECS = Registry("openunite.codecs", {"json": "json:dumps", "base64": "base64:b64encode"})


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package with entry points on the path, as pip would."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(module: str, source: str, *entries: str) -> None:
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        lines = ["[openunite.codecs]", *entries]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    return make


def test_a_builtin_is_found_by_name():
    assert CODECS.get("json")([1]) == "[1]"


def test_an_installed_package_adds_a_name(install):
    install("codecs_elsewhere", "def upper(x): return x.upper()\n", "up = codecs_elsewhere:upper")
    assert CODECS.names() == ("json", "base64", "up")
    assert CODECS.get("up")("a") == "A"


def test_nothing_is_imported_before_it_is_asked_for(install):
    install("codecs_lazy", "one = 1\n", "lazy = codecs_lazy:one")
    assert "lazy" in CODECS.names()
    assert "codecs_lazy" not in sys.modules
    assert CODECS.get("lazy") == 1


def test_a_package_cannot_take_the_name_of_a_builtin(install):
    install("codecs_thief", "one = 1\n", "json = codecs_thief:one")
    assert CODECS.names() == ("json", "base64")
    assert CODECS.get("json")([1]) == "[1]"


def test_an_unknown_name_is_answered_with_the_nearest():
    message = "expected one of the codecs json, base64, got 'bas64'; the nearest is 'base64'"
    with pytest.raises(ValueError, match=message):
        CODECS.get("bas64")


def test_a_package_that_cannot_be_imported_is_named(install):
    install("codecs_broken", "import nowhere\n", "broken = codecs_broken:one")
    with pytest.raises(ImportError, match=r"'broken' of codecs_broken .* uninstall"):
        CODECS.get("broken")

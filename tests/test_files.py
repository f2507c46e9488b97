"""Files that appear whole or not at all."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from openunite.files import atomic_file, read_json, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    write_json(path, {"x": "Ä"})
    assert read_json(path) == {"x": "Ä"}
    assert path.read_bytes().endswith(b"}\n")
    assert names(tmp_path) == ["a.json"]


def test_bytes_are_written_through_a_file_that_others_know(tmp_path: Path) -> None:
    """NumPy and Pillow take an open file; the suffix of its name does not matter."""
    path = tmp_path / "a.npz"
    with atomic_file(path) as file:
        np.savez(file, x=np.arange(3))
        assert not path.exists()
    assert np.load(path)["x"].tolist() == [0, 1, 2]
    assert names(tmp_path) == ["a.npz"]


def fail(*_: object) -> None:
    raise OSError(28, "No space left on device")


def interrupted(path: Path) -> None:
    """Ctrl-C in the middle of writing."""
    with atomic_file(path) as file:
        file.write(b"be")
        raise KeyboardInterrupt


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "good")
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "better")
    assert path.read_text() == "good"
    assert names(tmp_path) == ["a.txt"]


def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "good")
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_text() == "good"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """In a child whose files may have 1,000 bytes."""
    import resource

    path = tmp_path / "a.bin"
    write_text(path, "good")
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            write_text(path, "x" * 100_000)
        except OSError:
            os._exit(7)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert path.read_text() == "good"
    assert names(tmp_path) == ["a.bin"]


def test_the_contents_are_on_disk_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *given: (done.append("replace"), replace(*given)))
    write_text(tmp_path / "a.txt", "x")
    assert done == ["fsync", "replace"]


def test_unfinished_files_of_two_processes_have_two_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for process in (11, 12):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with atomic_file(tmp_path / "a.txt"):
            found |= set(names(tmp_path)) - {"a.txt"}
    assert len(found) == 2


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    write_text(tmp_path / "there" / "a.txt", "old")
    (tmp_path / "a.txt").symlink_to(tmp_path / "there" / "a.txt")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "new"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"a": ', "a.json is damaged: it is no JSON"),
        (b"\xff\xfe", "a.json is damaged: it is no JSON"),
        (b"[]", "a.json is damaged: expected a mapping, got list"),
    ],
)
def test_json_that_is_damaged_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")

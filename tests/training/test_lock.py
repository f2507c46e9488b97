"""A run folder has one owner, and none once the owner has ended."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from openunite.training import lock
from openunite.training.lock import run_lock

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def hold(folder: Path, pipe: Connection, *, leave_a_child: bool = False) -> None:
    """Say when the lock is held, and hold it until told otherwise."""
    with run_lock(folder):
        if leave_a_child and not os.fork():
            pipe.send(os.getpid())
            signal.pause()
        pipe.send("held")
        pipe.recv()


@needs_fork
def test_the_second_process_is_told_who_has_the_folder(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, there))
    other.start()
    assert here.recv() == "held"
    with (
        pytest.raises(ValueError, match=f"is being trained by process {other.pid} on .*--output"),
        run_lock(tmp_path),
    ):
        pass
    here.send("enough")
    other.join()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


@needs_fork
def test_a_killed_owner_has_no_lock(tmp_path: Path) -> None:
    """Nor do the workers that it forked and that live on."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    other = context.Process(target=hold, args=(tmp_path, there), kwargs={"leave_a_child": True})
    other.start()
    worker, held = sorted([here.recv(), here.recv()], key=str)
    assert held == "held"
    other.kill()
    other.join()
    try:
        os.kill(worker, 0)
        with run_lock(tmp_path):
            pass
    finally:
        os.kill(worker, 9)


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), run_lock(tmp_path):
        raise KeyError
    with run_lock(tmp_path):
        pass


def test_two_folders_have_two_locks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        pass


def test_without_locks_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", None)
    with run_lock(tmp_path), run_lock(tmp_path):
        pass


@needs_fork
def test_a_disk_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with run_lock(tmp_path), run_lock(tmp_path):
        pass

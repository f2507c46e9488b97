"""The pass over a source: memory or demand, and the index."""

import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.data.images.samples import SMALL, assert_same, contents, counted, fill

from openunite.data.images import dataset as data_module
from openunite.data.images import scan as scan_module
from openunite.data.images.dataset import (
    open_images,
)


def test_on_demand_equals_in_memory(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / "zoo" / name, 15, first=ord(name), size=(13, 9))
    (tmp_path / "zoo" / "a" / "bad.png").write_bytes(b"")
    options = {**SMALL, "max_bad_share": 0.1}
    memory = open_images(tmp_path / "zoo", **options)
    demand = open_images(tmp_path / "zoo", **options, memory_limit=0)
    indexed = open_images(tmp_path / "zoo", **options, memory_limit=0)
    assert isinstance(memory.train._store, np.ndarray)
    assert isinstance(demand.train._store, data_module._OnDemand)
    assert_same(memory, demand)
    assert_same(memory, indexed)
    assert memory.skipped == demand.skipped == indexed.skipped
    assert len(memory.skipped) == 1


def test_memory_limit_is_exact(tmp_path):
    folder = fill(tmp_path / "flat", 3)
    need = 3 * 3 * 4 * 5
    for limit, store in ((need, np.ndarray), (need - 1, data_module._OnDemand)):
        assert isinstance(open_images(folder, **SMALL, memory_limit=limit).train._store, store)


def test_index_saves_reading(tmp_path, monkeypatch, cache):
    folder = fill(tmp_path / "flat", 10)
    (folder / "bad.png").write_bytes(b"")
    options = {**SMALL, "memory_limit": 0, "max_bad_share": 0.1}
    reads = counted(monkeypatch)
    first = open_images(folder, **options)
    assert sorted(reads) == list(range(11))
    reads.clear()
    assert_same(open_images(folder, **options), first)
    assert reads == []
    (folder / "0003.png").write_bytes((folder / "0004.png").read_bytes())
    os.utime(folder / "0003.png", ns=(1, 1))
    (folder / "0005.png").unlink()
    fill(folder, 1, first=50)
    changed = open_images(folder, **options)
    assert len(reads) == 2
    assert changed.fingerprint != first.fingerprint
    reads.clear()
    open_images(folder, **options)
    assert reads == []
    open_images(folder, **{**options, "height": 3})  # another target: other images may be bad
    assert len(reads) == 11
    assert [path.suffix for path in cache.iterdir()] == [".json", ".json"]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b'{"records": []}',
        b'{"records": {"0000.png": ["x"]}}',
        b'{"records": {"0000.png": ["x", "y", ""]}}',
        b'{"records": {"0000.png": [1, 2, 3]}}',
        b'{"records": {"0000.png": null}}',
    ],
)
def test_a_broken_index_is_rewritten(tmp_path, monkeypatch, cache, broken):
    folder = fill(tmp_path / "flat", 4)
    options = {**SMALL, "memory_limit": 0}
    first = open_images(folder, **options)
    (index,) = cache.glob("images-*.json")
    index.write_bytes(broken)
    reads = counted(monkeypatch)
    assert_same(open_images(folder, **options), first)
    assert len(reads) == 4
    assert len(json.loads(index.read_text())["records"]) == 4
    reads.clear()
    open_images(folder, **options)
    assert reads == []


@pytest.mark.parametrize("digest", ["", "abc", "Z" * 64, 5, None])
def test_an_index_with_right_stamps_and_wrong_hashes_is_broken(
    tmp_path, monkeypatch, cache, digest
):
    folder = fill(tmp_path / "flat", 4)
    options = {**SMALL, "memory_limit": 0}
    first = open_images(folder, **options)
    (index,) = cache.glob("images-*.json")
    content = json.loads(index.read_text())
    content["records"]["0002.png"][1] = digest
    index.write_text(json.dumps(content))
    reads = counted(monkeypatch)
    assert_same(open_images(folder, **options), first)
    assert len(reads) == 4


def test_cache_dir_and_a_cache_that_cannot_be_written(tmp_path, cache):
    folder = fill(tmp_path / "flat", 3)
    open_images(folder, **SMALL, cache_dir=tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 1
    assert not cache.exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot write the image index"):
        open_images(folder, **SMALL, cache_dir=tmp_path / "file" / "below")


def test_a_file_that_breaks_later_is_named(tmp_path):
    folder = fill(tmp_path / "flat", 3)
    data = open_images(folder, **SMALL, memory_limit=0)
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"000\d.png was fine when .*empty file"):
        data.train.batch([0])


def test_each_file_is_read_once(tmp_path, monkeypatch):
    folder = fill(tmp_path / "flat", 100, size=(2, 2))
    names: list[str] = []
    original = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: (names.append(self.name), original(self))[1]
    )
    monkeypatch.setattr(data_module, "depth_notes", lambda _: ())  # opens up to 200 again
    data = open_images(folder, **SMALL, num_threads=3)
    contents(data)
    assert sorted(names) == sorted(path.name for path in folder.iterdir())


def test_number_of_threads_changes_nothing(tmp_path):
    folder = fill(tmp_path / "flat", 150, size=(3, 7))
    assert_same(
        open_images(folder, **SMALL, num_threads=1), open_images(folder, **SMALL, num_threads=5)
    )


def test_errors_in_the_scan_are_not_swallowed(tmp_path, monkeypatch):
    def explode(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(scan_module, "decode", explode)
    with pytest.raises(RuntimeError, match="a defect"):
        open_images(fill(tmp_path / "flat", 3), **SMALL)


def test_fingerprint_sees_content_and_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1])

    def fingerprint(**arrays: np.ndarray) -> str:
        np.savez(tmp_path / "a.npz", **arrays)
        return open_images(tmp_path / "a.npz", **SMALL).fingerprint

    first = fingerprint(images=images, labels=labels)
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert fingerprint(images=images, labels=labels) == first
    assert fingerprint(images=images, labels=labels[::-1]) != first
    assert fingerprint(images=images, labels=labels, class_names=np.array(["a", "b"])) != first
    split = np.array([0, 0, 0, 0, 0, 1])
    assert fingerprint(images=images, labels=labels, split=split) != first
    changed = images.copy()
    changed[0, 0, 0, 0] ^= 1
    assert fingerprint(images=changed, labels=labels) != first


def test_an_image_that_needs_too_much_memory_is_one_bad_image(tmp_path, monkeypatch):
    folder = fill(tmp_path / "flat", 4)
    original = scan_module.decode

    def decode(content: bytes, spec: object) -> np.ndarray:
        if content == (folder / "0001.png").read_bytes():
            raise MemoryError
        return original(content, spec)

    monkeypatch.setattr(scan_module, "decode", decode)
    options = {**SMALL, "max_bad_share": 0.5, "memory_limit": 0}
    data = open_images(folder, **options)
    assert [(item.name, item.reason) for item in data.skipped] == [
        ("0001.png", "needs more memory than there is")
    ]
    monkeypatch.undo()
    assert open_images(folder, **options).skipped == ()  # it was not remembered


def test_what_could_not_be_read_is_tried_again(tmp_path, monkeypatch):
    folder = fill(tmp_path / "flat", 4)
    original = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "0001.png":
            raise OSError("the disk is away")
        return original(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    options = {**SMALL, "max_bad_share": 0.5, "memory_limit": 0}
    assert len(open_images(folder, **options).skipped) == 1
    monkeypatch.setattr(Path, "read_bytes", original)
    assert open_images(folder, **options).skipped == ()


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupt_ends_the_scan_between_two_images(tmp_path, monkeypatch):
    """All 64 images of a chunk had to be decoded before."""
    folder = fill(tmp_path / "flat", 60)
    begun: list[int] = []

    def slow(*_: object) -> None:
        begun.append(1)
        time.sleep(0.05)
        if len(begun) == 2:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    monkeypatch.setattr(scan_module, "decode", slow)
    with pytest.raises(KeyboardInterrupt):
        open_images(folder, **SMALL, num_threads=1)
    assert len(begun) < 10

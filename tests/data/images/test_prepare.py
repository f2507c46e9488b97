"""Prepared shards: the same pixels, order and split as their source; interrupted, they go on."""

import hashlib
import json
import multiprocessing
import os
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.images.samples import assert_same, contents, counted, fill, message, picture

from openunite.data.images import prepare as module
from openunite.data.images.dataset import open_images
from openunite.data.images.prepare import Prepared, prepare_images
from openunite.data.images.prepared import INDEX
from openunite.data.images.tars import TarItems, read_tars, tar_files

SIZE = 8
SPEC = {"height": SIZE, "width": SIZE, "channels": 3, "progress": False, "holdout_share": 0.2}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes, 23 images of several sizes."""
    folder = tmp_path / "source"
    fill(folder / "cat", 12, size=(19, 11))
    fill(folder / "dog", 11, first=100, size=(9, 30))
    return folder


def prepare(source: Path, folder: Path, **options: object) -> Prepared:
    settings = {"size": SIZE, "shard_size": 5, "progress": False} | options
    return prepare_images(source, folder, **settings)


def sums(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.tar")}


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_run_on_the_copy_sees_what_a_run_on_the_source_sees(
    source: Path, tmp_path: Path, in_memory: bool
) -> None:
    done = prepare(source, tmp_path / "copy")
    assert (done.num_images, done.skipped, done.written, done.kept) == (23, (), 5, 0)
    options = {**SPEC, "memory_limit": 2**30 if in_memory else 0}
    original, copy = (open_images(tmp_path / name, **options) for name in ("source", "copy"))
    assert_same(original, copy)  # pixels, labels, order, split and fingerprint
    assert copy.class_names == ("cat", "dog")


def test_opening_a_copy_reads_no_image(source: Path, tmp_path: Path, monkeypatch) -> None:
    """With ImageNet that is the difference between seconds and an hour."""
    prepare(source, tmp_path / "copy")
    reads = counted(monkeypatch)
    monkeypatch.setattr(TarItems, "read", lambda *_: pytest.fail("read"))
    data = open_images(tmp_path / "copy", **SPEC, memory_limit=0)
    assert (len(data.train), len(data.test), reads) == (18, 5, [])


def test_splits_of_the_source_and_other_channels_are_kept(tmp_path: Path) -> None:
    fill(tmp_path / "source" / "train", 7)
    fill(tmp_path / "source" / "test", 3, first=50)
    prepare(tmp_path / "source", tmp_path / "copy", channels=1, size=4)
    spec = {**SPEC, "height": 4, "width": 4, "channels": 1}
    assert_same(*(open_images(tmp_path / name, **spec) for name in ("source", "copy")))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_survives(tmp_path: Path, mode: str) -> None:
    (tmp_path / "source").mkdir()
    for i in range(4):
        image = picture(i, (SIZE, SIZE)).convert(mode)
        image.putalpha(picture(10 + i, (SIZE, SIZE)).convert("L"))
        image.save(tmp_path / "source" / f"{i}.png")
    channels = len(mode)
    prepare(tmp_path / "source", tmp_path / "copy", channels=channels)
    spec = {**SPEC, "channels": channels}
    assert_same(*(open_images(tmp_path / name, **spec) for name in ("source", "copy")))


def test_jpeg_is_smaller_and_close(source: Path, tmp_path: Path) -> None:
    for path in source.rglob("*.png"):
        smooth = Image.open(path).resize((3, 3)).resize((64, 64), Image.Resampling.BICUBIC)
        smooth.save(path)
    for quality in (None, 95):
        prepare(source, tmp_path / str(quality), size=64, jpeg_quality=quality)
    spec = {**SPEC, "height": 64, "width": 64}
    exact, close = (contents(open_images(tmp_path / q, **spec)) for q in ("None", "95"))
    difference = (exact["train data"].float() - close["train data"].float()).abs()
    assert 0 < difference.mean() < 2
    sizes = [sum(p.stat().st_size for p in (tmp_path / q).glob("*.tar")) for q in ("None", "95")]
    assert sizes[1] < sizes[0]


def test_copies_with_other_pixels_have_another_fingerprint(source: Path, tmp_path: Path) -> None:
    """But the same held-out images; an exact copy of a copy is that copy."""
    prepare(source, tmp_path / "jpeg", jpeg_quality=10)
    prepare(source, tmp_path / "better", jpeg_quality=90)
    prepare(source, tmp_path / "large", size=16)
    prepare(tmp_path / "jpeg", tmp_path / "again")
    names = ("source", "jpeg", "better", "large", "again")
    found = [open_images(tmp_path / name, **SPEC) for name in names]
    assert len({data.fingerprint for data in found}) == 4
    assert_same(found[1], found[4])
    assert all(torch.equal(data.test.labels, found[0].test.labels) for data in found)
    large = {**SPEC, "height": 16, "width": 16}
    assert_same(*(open_images(tmp_path / name, **large) for name in ("source", "large")))


def test_bad_files_are_named_and_too_many_stop(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(ValueError, match=r"1 of 24 .*cat/broken.jpg.*set max_bad_share"):
        prepare(source, tmp_path / "copy")
    done = prepare(source, tmp_path / "copy", max_bad_share=0.1)
    assert [item.name for item in done.skipped] == ["cat/broken.jpg"]
    assert done.num_images == 23
    index = json.loads((tmp_path / "copy" / INDEX).read_text())
    assert index["skipped"][0][0] == "cat/broken.jpg"
    options = {**SPEC, "max_bad_share": 0.1}
    assert_same(*(open_images(tmp_path / name, **options) for name in ("source", "copy")))


def test_what_is_finished_is_kept_and_the_rest_is_made(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "whole")
    folder = tmp_path / "parts"
    prepare(source, folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    (folder / "shard-00001.tar").unlink()
    damaged = folder / "shard-00003.tar"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    again = prepare(source, folder)
    assert (again.written, again.kept) == (2, 3)
    kept = [name for name in times if (folder / name).stat().st_mtime_ns == times[name]]
    assert sorted(kept) == ["shard-00000.tar", "shard-00002.tar", "shard-00004.tar"]
    assert sums(folder) == sums(tmp_path / "whole")
    picture(999, (20, 20)).save(source / "dog" / "0105.png")  # one image of the source changes
    assert prepare(source, folder).written == 1


def test_killed_and_started_again(source: Path, tmp_path: Path, monkeypatch) -> None:
    """SIGKILL in the middle of a shard, as the kernel does when memory runs out."""
    prepare(source, tmp_path / "whole")
    folder = tmp_path / "killed"
    slow = module._add

    def add(*arguments: object) -> None:
        time.sleep(0.02)
        slow(*arguments)

    monkeypatch.setattr(module, "_add", add)
    child = multiprocessing.get_context("fork").Process(target=prepare, args=(source, folder))
    child.start()
    deadline = time.monotonic() + 60
    while not (folder / "shard-00001.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    monkeypatch.undo()
    finished = len(list(folder.glob("shard-*.npz")))
    assert 2 <= finished < 5
    assert "run the same `openunite prepare` again" in message(folder, **SPEC)
    again = prepare(source, folder)
    assert (again.kept, again.written) == (finished, 5 - finished)
    assert sums(folder) == sums(tmp_path / "whole")
    assert not list(folder.glob(".writing*"))
    assert (folder / INDEX).read_text() == (tmp_path / "whole" / INDEX).read_text()


def test_other_settings_and_other_folders_are_refused(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "copy")
    with pytest.raises(ValueError, match="size: 8 -> 16"):
        prepare(source, tmp_path / "copy", size=16)
    with pytest.raises(ValueError, match="not empty"):
        prepare(source, source)
    with pytest.raises(ValueError, match="JPEG holds 1 or 3 channels"):
        prepare(source, tmp_path / "new", channels=4, jpeg_quality=90)


def test_a_missing_or_cut_shard_is_named(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "copy")
    shard = tmp_path / "copy" / "shard-00002.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    assert "shard-00002.tar" in message(tmp_path / "copy", **SPEC)
    shard.unlink()
    assert "shard-00002.tar" in message(tmp_path / "copy", **SPEC)


def test_shards_are_plain_webdataset(source: Path, tmp_path: Path) -> None:
    """Any reader of tar files finds images and classes; without the index, so do we."""
    prepare(source, tmp_path / "copy")
    with tarfile.open(tmp_path / "copy" / "shard-00002.tar") as tar:
        assert tar.getnames()[:4] == [
            *("000000010.png", "000000010.cls", "000000011.png", "000000011.cls")
        ]
        assert tar.extractfile("000000010.cls").read() == b"0"
    indexed = contents(open_images(tmp_path / "copy", **SPEC))
    (tmp_path / "copy" / INDEX).unlink()
    found = read_tars(tmp_path / "copy", tar_files(tmp_path / "copy"))
    assert np.bincount(found.labels).tolist() == [12, 11]
    plain = contents(open_images(tmp_path / "copy", **SPEC))
    everything = [torch.cat([c["train data"], c["test data"]]) for c in (indexed, plain)]
    assert (
        everything[0].flatten(1).sum(1).sort()[0].equal(everything[1].flatten(1).sum(1).sort()[0])
    )


def test_tars_of_others(tmp_path: Path) -> None:
    """Names with folders, no classes, a shard for tests; then one class missing."""
    fill(tmp_path / "images", 6)
    (tmp_path / "tars").mkdir()
    for shard, rows in {"train-0": (0, 1, 2, 3), "val-0": (4, 5)}.items():
        with tarfile.open(tmp_path / "tars" / f"{shard}.tar", "w") as tar:
            for i in rows:
                tar.add(tmp_path / "images" / f"{i:04}.png", f"a/{i}.input.png")
    data = open_images(tmp_path / "tars", height=4, width=5, channels=3, progress=False)
    assert (len(data.train), len(data.test), data.num_classes) == (4, 2, 0)
    expected = np.asarray(picture(4)).transpose(2, 0, 1)
    assert np.array_equal(data.test.batch([0]).data[0].numpy(), expected)
    label = tmp_path / "3.cls"
    label.write_text("1")
    with tarfile.open(tmp_path / "tars" / "train-0.tar", "a") as tar:
        tar.add(label, "a/3.cls")
    assert "has no .cls member" in message(tmp_path / "tars")
    (tmp_path / "tars" / "train-0.tar").write_bytes(b"no tar")
    assert "train-0.tar is no plain tar file" in message(tmp_path / "tars")


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: index.pop("finished"),
        lambda index: index.update(format="2"),
        lambda index: index.update(format=None),
        lambda index: index["shards"][0].update(name="../../../etc/passwd"),
        lambda index: index["shards"][0].update(name="/etc/passwd.tar"),
        lambda index: index["shards"][0].update(bytes="many"),
        lambda index: index["shards"][0].pop("sha256"),
        lambda index: index.update(shards=3),
        lambda index: index.update(class_names=[1, 2]),
        lambda index: index["target"].pop("channels"),
        lambda index: index.update(skipped=[["x"]]),
        lambda index: index.update(target=None),
    ],
)
def test_an_index_that_is_not_as_it_should_be(source: Path, tmp_path: Path, damage) -> None:
    folder = tmp_path / "copy"
    prepare(source, folder)
    index = json.loads((folder / INDEX).read_text())
    damage(index)
    (folder / INDEX).write_text(json.dumps(index))
    assert "prepared.json cannot be read; prepare the data again" in message(folder, **SPEC)
    with pytest.raises(ValueError, match="cannot be read; prepare the data again"):
        prepare(source, folder)


@pytest.mark.parametrize("content", ["", "[]", "3", "[" * 100_000, '{"format": 1}'])
def test_an_index_that_is_none(source: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / INDEX).write_text(content)
    assert "cannot be read; prepare the data again" in message(tmp_path / "copy", **SPEC)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("offsets", [-512, 512, 512, 512, 512]),
        ("lengths", [10**12] * 5),
        ("lengths", [-1] * 5),
        ("labels", [0, 1, 2, 0, 0]),
        ("labels", [0.0] * 5),
        ("digests", np.zeros((5, 16), np.uint8)),
        ("held_out", [False] * 4),
        ("names", None),
    ],
)
def test_columns_that_do_not_fit_their_shard(
    source: Path, tmp_path: Path, column: str, values
) -> None:
    prepare(source, tmp_path / "copy")
    path = tmp_path / "copy" / "shard-00000.npz"
    with np.load(path) as file:
        arrays = {key: value for key, value in file.items() if key != column}
    np.savez(path, **arrays, **({} if values is None else {column: np.array(values)}))
    assert "shard-00000.npz is damaged; delete it" in message(tmp_path / "copy", **SPEC)
    path.unlink()  # what the sentence says
    assert prepare(source, tmp_path / "copy").written == 1
    assert_same(*(open_images(tmp_path / name, **SPEC) for name in ("source", "copy")))


def test_what_was_left_out_is_told_by_the_copy_too(source: Path, tmp_path: Path) -> None:
    (source / "cat" / "a.HEIC").write_bytes(b"x")
    (source / "cat" / "bad.png").write_bytes(b"")
    told = "1 .heic file left out (cat/a.HEIC): convert to PNG or JPEG"
    assert prepare(source, tmp_path / "copy", max_bad_share=0.1).notes == (told,)
    assert open_images(tmp_path / "copy", **SPEC).notes == (
        "1 image left out (cat/bad.png): not usable when the copy was made",
        told,
    )


def test_a_copy_inside_its_source_is_no_part_of_it(source: Path, tmp_path: Path) -> None:
    before = open_images(source, **SPEC)
    prepare(source, source / "copy")
    assert prepare(source, source / "copy").kept == 5
    assert_same(open_images(source, **SPEC), before)
    assert_same(open_images(source / "copy", **SPEC), before)

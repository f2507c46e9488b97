"""Folders and paths."""

import os

import numpy as np
import pytest
import torch
from tests.data.images.samples import SMALL, fill, message, picture
from tests.data.images.test_tars import tar

from openunite.batch import CLASS
from openunite.data.images.dataset import (
    open_images,
)
from openunite.data.images.look import inspect_images


def test_class_folders(tmp_path):
    fill(tmp_path / "zoo" / "dog", 3)
    fill(tmp_path / "zoo" / "cat" / "deep" / "er", 2, first=10)
    fill(tmp_path / "zoo" / "cat", 2, first=20)
    (tmp_path / "zoo" / "notes.txt").write_text("ignored")
    (tmp_path / "zoo" / "cat" / ".hidden.png").write_text("ignored")
    fill(tmp_path / "zoo" / ".thumbnails", 1)
    data = open_images(str(tmp_path / "zoo"), **SMALL)
    assert data.class_names == ("cat", "dog")
    assert data.name == "zoo"
    assert len(data.train) + len(data.test) == 7
    both = torch.cat([data.train.labels, data.test.labels])
    assert both.bincount().tolist() == [4, 3]
    dogs = {np.asarray(picture(i)).tobytes() for i in range(3)}
    for part in (data.train, data.test):
        batch = part.batch(range(len(part)))
        classes = batch.conditions[CLASS]
        assert classes.known.all()
        for image, label in zip(batch.data, classes.values, strict=True):
            is_dog = image.permute(1, 2, 0).numpy().tobytes() in dogs
            assert label == int(is_dog)


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_own_split(tmp_path, test):
    for name, first in (("a", 0), ("b", 10), ("c", 20)):
        fill(tmp_path / "train" / name, 3, first=first)
    fill(tmp_path / test / "c", 2, first=30)
    data = open_images(tmp_path, **SMALL)  # one class is enough for a test split
    assert (len(data.train), len(data.test)) == (9, 2)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [2, 2]
    assert np.array_equal(data.test.batch([0]).data[0].permute(1, 2, 0), picture(30))
    fill(tmp_path / test / "b", 1, first=40)
    assert open_images(tmp_path, **SMALL).test.labels.tolist() == [1, 2, 2]


def test_own_split_of_flat_folders(tmp_path):
    fill(tmp_path / "train", 3)
    fill(tmp_path / "test", 1, first=5)
    data = open_images(tmp_path, **SMALL)
    assert (len(data.train), len(data.test), data.num_classes) == (3, 1, 0)


def test_flat_folder_is_not_searched_below(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "empty").mkdir()
    assert inspect_images(tmp_path).num_images == 3


def test_links(tmp_path):
    fill(tmp_path / "else", 4)
    folder = fill(tmp_path / "flat", 2, first=10)
    (folder / "linked.png").symlink_to(tmp_path / "else" / "0000.png")
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    data = open_images(folder, **SMALL, max_bad_share=0.3)
    assert len(data.train) + len(data.test) == 3
    assert [skipped.name for skipped in data.skipped] == ["broken.png"]
    fill(tmp_path / "zoo" / "a", 2)
    (tmp_path / "zoo" / "b").symlink_to(tmp_path / "else")
    assert "link to a folder" in message(tmp_path / "zoo")


def test_folder_errors(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no images" in message(empty)
    (empty / "readme.md").write_text("x")
    assert "has no images" in message(empty)
    fill(tmp_path / "one" / "only", 3)
    text = message(tmp_path / "one")
    assert "exactly one class folder" in text
    assert f"point at {tmp_path / 'one' / 'only'} itself" in text
    (tmp_path / "one" / "void").mkdir()
    assert "void has no images" in message(tmp_path / "one")
    fill(tmp_path / "one", 1)
    assert "mixes 1 loose images with folders of images" in message(tmp_path / "one")
    assert "at least 2" in message(fill(tmp_path / "single", 1))


def test_split_folder_errors(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        fill(tmp_path / name, 2)
    assert "need the same class folders, got a, b and a, c" in message(tmp_path)
    (tmp_path / "test" / "c").rename(tmp_path / "extra")
    assert "also extra" in message(tmp_path)


def test_paths(tmp_path):
    assert "no image source at" in message(tmp_path / "none", FileNotFoundError)
    assert "no image source at" in message("./none", FileNotFoundError)
    assert "no image source at" in message("none.npz", FileNotFoundError)
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "unpack it first" in message(tmp_path / "a.zip")
    picture(0).save(tmp_path / "a.png")
    assert "put images into a folder" in message(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("Train", "Test"), ("training", "testing"), ("TRAIN", "dev"), ("train2017", "val2017")),
        *(("train_images", "test_images"), ("trainset", "testset")),
    ],
)
def test_splits_by_other_names(tmp_path, train, test):
    for name in ("a", "b"):
        fill(tmp_path / train / name, 3, first=ord(name))
        fill(tmp_path / test / name, 2, first=2 * ord(name))
    data = open_images(tmp_path, **SMALL)
    assert (len(data.train), len(data.test), data.class_names) == (6, 4, ("a", "b"))


def test_two_train_folders_are_refused(tmp_path):
    for name in ("train", "Training", "test"):
        fill(tmp_path / name, 3)
    assert "two train folders, Training and train" in message(tmp_path)


def test_words_that_only_begin_like_a_split_are_classes(tmp_path):
    for i, name in enumerate(("train_station", "test_tube")):
        fill(tmp_path / name, 3, first=10 * i)
    assert open_images(tmp_path, **SMALL).class_names == ("test_tube", "train_station")


def test_an_unused_split_and_copies_across_splits_are_told(tmp_path):
    fill(tmp_path / "train", 4)
    fill(tmp_path / "val", 2, first=50)
    fill(tmp_path / "test", 2)
    data = open_images(tmp_path, **SMALL)
    assert data.notes == (
        "1 folder left out (val): test is the test split",
        "2 of 2 held-out images are also training images",
    )


def test_what_systems_leave_behind_is_ignored(tmp_path):
    for i, name in enumerate(("a", "b")):
        fill(tmp_path / name, 3, first=10 * i)
        for litter in ("._0000.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (tmp_path / name / litter).write_bytes(b"x")
    for name in ("__MACOSX/a", "$RECYCLE.BIN", "lost+found", "@eaDir", ".git"):
        fill(tmp_path / name, 1)
    data = open_images(tmp_path, **SMALL)
    assert (data.class_names, len(data.train) + len(data.test)) == (("a", "b"), 6)
    assert data.notes == ()


def test_files_that_are_no_images_are_counted(tmp_path):
    folder = fill(tmp_path / "phone", 4)
    for i in range(5):
        (folder / f"IMG_{i}.HEIC").write_bytes(b"x")
    for name in ("names.csv", "noun", "old.zip"):
        (folder / name).write_bytes(b"x")
    data = open_images(folder, **SMALL)
    assert data.notes == (
        "1 .csv file left out (names.csv): classes are read from folders, columns from "
        "metadata.csv or metadata.jsonl",
        "5 .heic files left out (IMG_0.HEIC, IMG_1.HEIC, IMG_2.HEIC, ...): convert to PNG or JPEG",
        "1 .zip file left out (old.zip): unpack before use",
        "1 suffixless file left out (noun)",
    )
    for path in folder.glob("*.png"):
        path.unlink()
    assert "has no images but 5 .heic files, 1 .csv file" in message(folder)
    assert message(folder).endswith("; convert to PNG or JPEG")


def test_what_openunite_wrote_is_no_data(tmp_path):
    """A run, a copy and a pipeline below a flat folder, then below class folders."""
    flat, zoo = fill(tmp_path / "flat", 4), tmp_path / "zoo"
    for i, name in enumerate(("a", "b")):
        fill(zoo / name, 3, first=10 * i)
    before = [open_images(path, **SMALL).fingerprint for path in (flat, zoo)]
    for path in (flat, zoo):
        for name, marks in {
            "runs/images": ("config.yaml", "data.json"),
            "copy": ("prepared.json",),
            "pipe": ("model_index.json",),
        }.items():
            fill(path / name, 1)
            for mark in marks:
                (path / name / mark).write_text("{}")
    after = [open_images(path, **SMALL) for path in (flat, zoo)]
    assert [data.fingerprint for data in after] == before
    assert after[0].notes == ("3 openunite folders left out (copy, pipe, runs/images)",)
    assert "is a run or a pipeline of openunite" in message(flat / "pipe")


def test_numbers_as_class_names_are_in_the_order_of_their_values(tmp_path):
    for i in (0, 1, 2, 10, 11):
        fill(tmp_path / str(i), 2, first=10 * i)
    data = open_images(tmp_path, **SMALL)
    assert data.class_names == ("0", "1", "2", "10", "11")
    elevens = {np.asarray(picture(110 + i)).transpose(2, 0, 1).tobytes() for i in range(2)}
    got = set()
    for part in (data.train, data.test):
        chosen = np.flatnonzero(np.asarray(part.labels) == 4)
        if len(chosen):
            got |= {image.numpy().tobytes() for image in part.batch(chosen.tolist()).data}
    assert got == elevens


def test_pictures_and_their_annotations_are_no_classes(tmp_path):
    for i, name in enumerate(("images", "masks")):
        fill(tmp_path / name, 3, first=10 * i)
    assert f"point at {tmp_path / 'images'} itself" in message(tmp_path)


def test_classes_that_differ_in_case_only_are_told(tmp_path):
    for i, name in enumerate(("Cat", "cat")):
        fill(tmp_path / name, 3, first=10 * i)
    assert open_images(tmp_path, **SMALL).notes == (
        "the class folders Cat and cat differ in the case of letters only",
    )


def test_images_beside_an_archive_of_images_are_refused(tmp_path):
    folder = fill(tmp_path / "flat", 4)
    tar(folder / "backup.tar", {"0.png": (folder / "0000.png").read_bytes()})
    text = message(folder)
    assert "has images and also backup.tar, which holds images" in text
    tar(folder / "backup.tar", {"notes.txt": b"x"})
    data = open_images(folder, **SMALL)
    assert (len(data.train), data.left_out[0].examples) == (3, ("backup.tar",))


def test_an_archive_beside_train_and_test_folders_is_left_out(tmp_path):
    fill(tmp_path / "train", 4)
    fill(tmp_path / "val", 2, first=50)
    tar(tmp_path / "val.tar", {"0.png": (tmp_path / "val" / "0050.png").read_bytes()})
    data = open_images(tmp_path, **SMALL)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert [item.kind for item in data.left_out] == [".tar file"]


def test_other_files_beside_shards_are_counted(tmp_path):
    tar(
        tmp_path / "a.tar",
        {f"{i}.png": (fill(tmp_path / "x", 1, i) / f"{i:04}.png").read_bytes() for i in range(3)},
    )
    for path in (tmp_path / "x").iterdir():
        path.unlink()
    (tmp_path / "README.md").write_text("x")
    assert open_images(tmp_path, **SMALL).notes == ("1 .md file left out (README.md)",)


@pytest.mark.timeout(20)
def test_pipes_devices_and_links_to_themselves_are_bad_images(tmp_path):
    folder = fill(tmp_path / "flat", 4)
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "self.png").symlink_to("self.png")
    os.mkfifo(folder / "pipe.tar")
    os.mkfifo(folder / "pipe.parquet")
    with open(folder / "vast.png", "wb") as file:
        file.truncate(2**31)
    data = open_images(folder, **SMALL, max_bad_share=0.5)
    assert len(data.train) + len(data.test) == 4
    assert {item.name: item.reason for item in data.skipped} == {
        "pipe.png": "cannot be read: not an ordinary file",
        "self.png": "cannot be read: Too many levels of symbolic links",
        "vast.png": "cannot be read: 2,147,483,648 bytes, more than an image has",
        "zero.png": "cannot be read: not an ordinary file",
    }


def test_names_that_stand_for_something_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is empty" in message("")
    assert "of several files, give their folder" in message("shards/*.tar", FileNotFoundError)
    assert "no image source at ~nobody-here/x" in message("~nobody-here/x", FileNotFoundError)
    fill(tmp_path / "fashion-mnist-mini", 1)
    data = open_images("fashion-mnist-mini", **SMALL)
    assert data.notes[0].endswith("write ./fashion-mnist-mini for the file or folder")

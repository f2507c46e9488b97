"""Folders and paths."""

import numpy as np
import pytest
import torch
from tests.data.images.samples import SMALL, fill, message, picture

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
        for item in part:
            is_dog = item["data"].permute(1, 2, 0).numpy().tobytes() in dogs
            assert item["label"] == int(is_dog)


@pytest.mark.parametrize("test", ["test", "val", "valid", "validation"])
def test_own_split(tmp_path, test):
    for name, first in (("a", 0), ("b", 10), ("c", 20)):
        fill(tmp_path / "train" / name, 3, first=first)
    fill(tmp_path / test / "c", 2, first=30)
    data = open_images(tmp_path, **SMALL)  # one class is enough for a test split
    assert (len(data.train), len(data.test)) == (9, 2)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [2, 2]
    assert np.array_equal(data.test[0]["data"].permute(1, 2, 0), picture(30))
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

"""Opened data: items, held-out split, bad images, a cheap look."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.images.samples import (
    SMALL,
    contents,
    fill,
    held_out,
    message,
    picture,
    pictures,
    save,
)

from openunite.data.images import look
from openunite.data.images.dataset import (
    open_images,
)
from openunite.data.images.look import ImageSummary, inspect_images
from openunite.training.loader import make_loader

# Items


def test_items_and_batches(tmp_path):
    data = open_images(fill(tmp_path / "flat", 10), **SMALL)
    item = data.train.batch([2])
    assert item.data.shape == (1, 3, 4, 5)
    assert item.data.dtype == torch.uint8
    assert item.index.dtype == data.train.labels.dtype == torch.int64
    assert item.mask is None
    assert not item.conditions  # a folder of images has no classes
    assert (len(data.train), len(data.test), data.num_classes, data.class_names) == (9, 1, 0, ())
    assert item.index.tolist() == [2]
    assert data.train.batch([-1]).index.tolist() == [8]
    batch = data.train.batch([3, 1, 1])
    assert batch.index.tolist() == [3, 1, 1]
    assert torch.equal(batch.data[1:2], data.train.batch([1]).data)
    assert data.train.batch(torch.tensor([4])).data.shape == (1, 3, 4, 5)
    assert data.train.batch([]).data.shape == (0, 3, 4, 5)
    for wrong in (9, -10):
        with pytest.raises(IndexError):
            data.train.batch([wrong])


def test_items_do_not_share_memory_with_the_store(tmp_path):
    data = open_images(fill(tmp_path / "flat", 3), **SMALL)
    before = data.train.batch([0]).data.clone()
    data.train.batch([0]).data.zero_()
    assert torch.equal(data.train.batch([0]).data, before)


@pytest.mark.parametrize("limit", [0, 10**9])
def test_loader_with_workers(tmp_path, limit):
    data = open_images(fill(tmp_path / "flat", 12), **SMALL, memory_limit=limit)
    parts = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    batches = list(make_loader(data.train, parts, 2, pinned=False))
    got = torch.cat([batch.data for batch in batches])
    assert torch.equal(got, data.train.batch(range(11)).data)
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(11))
    again = pickle.loads(pickle.dumps(data.train))
    assert torch.equal(again.batch([3]).data, data.train.batch([3]).data)


# Broken images


def break_three(folder: Path) -> None:
    (folder / "0001.png").write_bytes(b"")
    whole = (folder / "0002.png").read_bytes()
    (folder / "0002.png").write_bytes(whole[:-30])
    (folder / "0003.png").write_text("not an image")


def test_broken_files_are_named(tmp_path):
    folder = fill(tmp_path / "flat", 12)
    break_three(folder)
    data = open_images(folder, **SMALL, max_bad_share=0.25)
    assert [item.name for item in data.skipped] == ["0001.png", "0002.png", "0003.png"]
    assert [item.reason for item in data.skipped][::2] == [
        "empty file",
        "not an image that Pillow can read",
    ]
    assert len(data.train) + len(data.test) == 9
    text = message(folder, max_bad_share=0.249)
    for part in ("3 of 12", "25.00%", "0.249", "0001.png (empty file)", "max_bad_share to 0.25"):
        assert part in text


def test_one_bad_file_in_a_hundred_stops_by_default(tmp_path):
    folder = fill(tmp_path / "flat", 100, size=(2, 2))
    (folder / "0050.png").write_bytes(b"")
    assert "1 of 100" in message(folder)
    assert "set max_bad_share to 0.01 or more (`--max-bad-share`)" in message(folder)
    assert len(open_images(folder, **SMALL, max_bad_share=0.01).skipped) == 1


def test_short_sides_are_bad(tmp_path):
    folder = fill(tmp_path / "flat", 3)
    picture(9, (3, 20)).save(folder / "thin.png")
    data = open_images(folder, **SMALL, min_side=4, max_bad_share=0.5)
    assert [item.name for item in data.skipped] == ["thin.png"]
    assert data.skipped[0].reason == "3 x 20 pixels, shorter than 4"
    assert not open_images(folder, **SMALL, min_side=3).skipped


def test_nothing_left(tmp_path):
    folder = fill(tmp_path / "flat", 2)
    (folder / "0000.png").write_bytes(b"")
    assert "1 usable images of 2" in message(folder, max_bad_share=1.0)
    same = fill(tmp_path / "same", 1)
    (same / "copy.png").write_bytes((same / "0000.png").read_bytes())
    assert "copies" in message(same)


def test_mixed_sizes_become_one(tmp_path):
    folder = fill(tmp_path / "flat", 2)
    picture(5, (31, 17)).save(folder / "large.jpg")
    picture(6, (1, 1)).save(folder / "tiny.bmp")
    data = open_images(folder, **SMALL)
    assert contents(data)["train data"].shape == (3, 3, 4, 5)


# The held-out split


def test_split_depends_on_content_only(tmp_path):
    folder = fill(tmp_path / "first", 60)
    data = open_images(folder, **SMALL, holdout_share=0.2)
    assert len(data.test) == 12
    train = pictures(data.train)
    assert len(train) == 48
    assert not train & held_out(data)
    other = tmp_path / "second"
    other.mkdir()
    for i, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        (other / f"renamed {i:03}.png").write_bytes(path.read_bytes())
    renamed = open_images(other, **SMALL, holdout_share=0.2)
    assert held_out(renamed) == held_out(data)
    assert renamed.fingerprint != data.fingerprint  # the order changed, and with it the indices


def test_copies_fall_on_one_side(tmp_path):
    folder = fill(tmp_path / "flat", 20)
    for path in sorted(folder.iterdir()):
        for copy in range(3):
            (folder / f"{copy} copy of {path.name}").write_bytes(path.read_bytes())
    data = open_images(folder, **SMALL, holdout_share=0.27)  # 22 of 80: five and a half groups
    assert len(data.test) == 20
    assert not held_out(data) & pictures(data.train)


@pytest.mark.parametrize(
    "wrong",
    [
        {"holdout_share": 1.0},
        {"holdout_share": -0.1},
        {"holdout_max": 0},
        {"max_bad_share": 1.5},
        {"num_threads": 0},
        {"channels": 5},
        {"height": 0},
    ],
)
def test_wrong_options(wrong):
    assert next(iter(wrong)) in message("fashion-mnist-mini", **wrong)


# A cheap look


def test_inspect(tmp_path):
    folder = tmp_path / "flat"
    for i, size in enumerate([(10, 20), (12, 22), (100, 24)]):
        fill(folder, 1, first=i, size=size)
    assert inspect_images(folder) == ImageSummary(3, 22, 12, 3, 0)
    (folder / "bad.png").write_bytes(b"")
    assert inspect_images(folder) == ImageSummary(4, 22, 12, 3, 0)


def test_inspect_channels(tmp_path):
    gray = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5))
    clear = picture(0).convert("RGBA")
    clear.putpixel((0, 0), (1, 2, 3, 0))
    cases = [
        ([gray, gray.convert("RGB"), gray.convert("RGBA")], 1),
        ([gray, gray, picture(0)], 3),
        ([picture(0).convert("RGBA")] * 3, 3),
        ([clear, clear, picture(0)], 4),
        ([clear, picture(0)], 3),
    ]
    for i, (images, channels) in enumerate(cases):
        (tmp_path / str(i)).mkdir()
        for k, image in enumerate(images):
            image.save(tmp_path / str(i) / f"{k}.png")
        assert inspect_images(tmp_path / str(i)).channels == channels


def test_inspect_looks_at_no_more_than_200(tmp_path, monkeypatch):
    images = np.zeros((3000, 2, 3), np.uint8)
    opened = []
    original = look.open_image
    monkeypatch.setattr(
        look, "open_image", lambda content: (opened.append(1), original(content))[1]
    )
    path = save(tmp_path / "a.npz", images=images)
    assert inspect_images(path) == ImageSummary(3000, 2, 3, 1, 0)
    assert len(opened) == 200


def test_inspect_with_nothing_to_see(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no readable image"):
        inspect_images(tmp_path)

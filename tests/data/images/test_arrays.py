"""Built-in sets and .npz files."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.images.samples import (
    SMALL,
    assert_same,
    counted,
    message,
    picture,
    save,
)

from openunite.data.images import dataset as data_module
from openunite.data.images.dataset import (
    open_images,
)
from openunite.data.images.look import ImageSummary, inspect_images

# Built-in sets


def test_fashion_mnist_mini():
    data = open_images("fashion-mnist-mini", height=28, width=28, channels=1, progress=False)
    assert (len(data.train), len(data.test), data.num_classes) == (6000, 1000, 10)
    assert data.class_names[0] == "T-shirt/top"
    assert data.train.labels.bincount().tolist() == [600] * 10
    with np.load(Path(data_module.__file__).parent / "assets/fashion_mnist_mini.npz") as file:
        assert np.array_equal(data.test[7]["data"][0], file["x_test"][7])
        assert data.test[7]["label"] == file["y_test"][7]
    assert inspect_images("fashion-mnist-mini") == ImageSummary(7000, 28, 28, 1, 10)


def test_digits():
    pytest.importorskip("sklearn")
    data = open_images("digits", height=8, width=8, channels=1, progress=False)
    assert (len(data.train), len(data.test), data.num_classes) == (1707, 90, 10)
    assert data.train.batch(range(1707))["data"].max() == 255
    assert inspect_images("digits") == ImageSummary(1797, 8, 8, 1, 10)


def test_digits_without_sklearn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "pip install 'openunite[digits]'" in message("digits", ImportError)


# Arrays


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (9, 7), (9, 7, 4)])
def test_npz_images(tmp_path, shape):
    images = np.random.default_rng(1).integers(0, 256, (8, *shape), dtype=np.uint8)
    path = save(tmp_path / "set.npz", images=images, labels=np.arange(8) % 3)
    data = open_images(path, **SMALL)
    assert (data.name, data.num_classes, data.class_names) == ("set", 3, ("0", "1", "2"))
    assert len(data.train) == 7
    split = np.array([0, 1] * 4)
    data = open_images(save(path, images=images, split=split), **SMALL)
    assert (len(data.train), len(data.test), data.num_classes) == (4, 4, 0)
    if shape == (4, 5, 3):
        assert np.array_equal(data.test[1]["data"].permute(1, 2, 0), images[3])


def test_npz_floats(tmp_path):
    images = np.random.default_rng(1).random((8, 4, 5, 3))
    data = open_images(save(tmp_path / "a.npz", images=images, split=[0] * 7 + [1]), **SMALL)
    expected = np.rint(images[7] * 255).astype(np.uint8)
    assert np.array_equal(data.test[0]["data"].permute(1, 2, 0), expected)


def packed(count: int = 6) -> dict[str, np.ndarray]:
    files = []
    for i in range(count):
        file = io.BytesIO()
        picture(i).save(file, "JPEG")
        files.append(np.frombuffer(file.getvalue(), dtype=np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    return {"jpeg": np.concatenate(files), "offsets": offsets, "labels": np.arange(count) % 2}


def test_npz_packed(tmp_path, monkeypatch):
    split = np.array([0, 0, 1, 0, 0, 1], dtype=np.uint8)
    names = np.array(["x", "y"])
    path = save(tmp_path / "p.npz", **packed(), split=split, class_names=names)
    data = open_images(path, **SMALL)
    assert (len(data.train), len(data.test), data.class_names) == (4, 2, ("x", "y"))
    assert data.test.labels.tolist() == [0, 1]
    reads = counted(monkeypatch)
    assert_same(open_images(path, **SMALL, memory_limit=0), data)
    assert_same(open_images(path, **SMALL, memory_limit=0), data)
    assert reads == []  # the first opening already left an index
    assert inspect_images(path) == ImageSummary(6, 4, 5, 3, 2)


def test_npz_train_and_test(tmp_path):
    a, b = np.zeros((3, 4, 5), np.uint8), np.ones((2, 6, 6), np.uint8)
    a[:, 0, 0] = [1, 2, 3]
    path = save(tmp_path / "p.npz", x_train=a, x_test=b, y_train=[0, 1, 2], y_test=[2, 0])
    data = open_images(path, **SMALL)
    assert (len(data.train), len(data.test), data.num_classes) == (3, 2, 3)
    assert data.test.labels.tolist() == [2, 0]
    data = open_images(save(path, x_train=a), **SMALL)
    assert (len(data.train), len(data.test), data.num_classes) == (2, 1, 0)


GOOD = np.zeros((4, 4, 5), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"pictures": GOOD}, "needs an array 'images', 'jpeg' or 'x_train', got pictures"),
        ({"images": GOOD * 1.0 + 1.5}, r"floats in [0, 1], got float64 from 0.0 to 1.5"),
        ({"images": GOOD * 1.0 - 0.5}, "floats in [0, 1]"),
        ({"images": GOOD * np.nan}, "floats in [0, 1]"),
        ({"images": GOOD.astype(np.int64)}, "must be uint8"),
        ({"images": GOOD[0]}, "shape (N, H, W)"),
        ({"images": np.zeros((4, 4, 5, 5), np.uint8)}, "shape (N, H, W)"),
        ({"images": GOOD, "labels": [0, 1, 2]}, "4 images but labels of shape (3,)"),
        ({"images": GOOD, "labels": [0, 1, 2, -1]}, "between 0 and 2, got -1 to 2"),
        ({"images": GOOD, "labels": [0, 1, 2, 0.5]}, "must be integers from 0, got float64"),
        ({"images": GOOD, "labels": [0, 1, 2, 2], "class_names": ["a", "b"]}, "between 0 and 1"),
        ({"images": GOOD, "split": [0, 1, 2, 0]}, "0 (train) or 1 (test)"),
        ({"images": GOOD, "split": [0, 1]}, "0 (train) or 1 (test)"),
        ({"images": np.arange(80, dtype=np.uint8).reshape(4, 4, 5), "split": [1] * 4}, "0 usable"),
        ({"x_train": GOOD, "x_test": GOOD, "y_train": [0] * 4}, "add 'y_test'"),
        ({"x_train": GOOD, "x_test": GOOD, "y_train": [0] * 5, "y_test": [0] * 3}, "(x_train) has"),
        ({"images": np.array([{}, {}])}, "without pickles"),
        ({"jpeg": np.zeros(9, np.uint8)}, "needs 'offsets'"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": [0.0, 9.0]}, "needs 'offsets'"),
        ({"jpeg": np.zeros(9, np.int32), "offsets": [0, 9]}, "uint8 in one row"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": [0, 5, 4, 9]}, "must increase"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": [0, 5, 5, 9]}, "must increase"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": [0, 5, 10]}, "must increase"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": [-1, 5, 9]}, "must increase"),
        (
            {"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 5, 4, 9], np.uint64)},
            "must increase",
        ),
        (
            {"jpeg": np.zeros(9, np.uint8), "offsets": [0, 4, 9], "labels": [0]},
            "2 images but labels",
        ),
    ],
)
def test_npz_errors(tmp_path, arrays, expected):
    assert expected in message(save(tmp_path / "a.npz", **arrays))


def test_npz_that_is_none(tmp_path):
    for content in (b"", b"PK\x03\x04broken", b"\x93NUMPY"):
        (tmp_path / "a.npz").write_bytes(content)
        assert "is no .npz file; save the arrays with np.savez" in message(tmp_path / "a.npz")

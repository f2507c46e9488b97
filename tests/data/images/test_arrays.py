"""Built-in sets and .npz files."""

import io
import sys
import zipfile
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

from openunite.batch import CLASS
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
        assert np.array_equal(data.test.batch([7]).data[0, 0], file["x_test"][7])
        assert data.test.batch([7]).conditions[CLASS].values[0] == file["y_test"][7]
    assert inspect_images("fashion-mnist-mini") == ImageSummary(7000, 28, 28, 1, 10)


def test_digits():
    pytest.importorskip("sklearn")
    data = open_images("digits", height=8, width=8, channels=1, progress=False)
    assert (len(data.train), len(data.test), data.num_classes) == (1707, 90, 10)
    assert data.train.batch(range(1707)).data.max() == 255
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
        assert np.array_equal(data.test.batch([1]).data[0].permute(1, 2, 0), images[3])


def test_npz_floats(tmp_path):
    images = np.random.default_rng(1).random((8, 4, 5, 3))
    data = open_images(save(tmp_path / "a.npz", images=images, split=[0] * 7 + [1]), **SMALL)
    expected = np.rint(images[7] * 255).astype(np.uint8)
    assert np.array_equal(data.test.batch([0]).data[0].permute(1, 2, 0), expected)


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
        assert "as .npz without pickles (File is not a zip file); save" in message(
            tmp_path / "a.npz"
        )


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1, 2, 3, 1], ("1", "2", "3")),
        ([0, 500, 1000, 0], ("0", "500", "1000")),
        ([10**12, 10**12 + 1, 10**12, 10**12], ("1000000000000", "1000000000001")),
        (np.array([2**63 + 5, 7, 7, 7], np.uint64), ("7", str(2**63 + 5))),
        ([[0], [1], [2], [0]], ("0", "1", "2")),
        (["cat", "dog", "cat", "ape"], ("ape", "cat", "dog")),
        (["10", "9", "9", "1"], ("1", "9", "10")),
    ],
)
def test_labels_that_are_no_ranks_keep_their_value_as_the_name(tmp_path, labels, names):
    images = np.arange(80, dtype=np.uint8).reshape(4, 4, 5)
    data = open_images(save(tmp_path / "a.npz", images=images, labels=labels), **SMALL)
    assert data.class_names == names
    both: dict[int, int] = {}
    for part in (data.train, data.test):
        batch = part.batch(range(len(part)))
        firsts = batch.data[:, 0, 0, 0].int() // 20
        both |= dict(zip(firsts.tolist(), part.labels[batch.index].tolist(), strict=True))
    assert [names[both[i]] for i in range(4)] == [str(x) for x in np.ravel(labels).tolist()]


def test_new_numbers_and_empty_classes_are_told(tmp_path):
    images = np.arange(240, dtype=np.uint8).reshape(12, 4, 5)
    path = save(tmp_path / "a.npz", images=images, labels=np.arange(12) % 3 + 1, more=[1, 2])
    assert open_images(path, **SMALL).notes == (
        "1 array left out (more)",
        "labels 1 to 3 became classes 0 to 2, named by the old numbers",
    )
    save(path, images=images, labels=np.arange(12) % 2, class_names=["a", "b", "c"])
    assert open_images(path, **SMALL).notes == ("1 of 3 classes have no training image (c)",)
    save(path, images=images, labels=np.arange(12) * 17)
    assert (
        "there are 12 classes for 12 images: are they classes?" in open_images(path, **SMALL).notes
    )


def test_labels_from_0_are_what_they_were(tmp_path):
    """Runs are resumed by the fingerprint."""
    images = np.arange(240, dtype=np.uint8).reshape(12, 4, 5)
    path = save(tmp_path / "a.npz", images=images, labels=np.arange(12) % 3)
    assert open_images(path, **SMALL).fingerprint == (
        "e42525a9a466322a99a03221a3f707eaad70cee02d889c021512ca1ff6dbdc5b"
    )


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (np.zeros((16, 16, 3), np.uint8), "one image is images[None]"),
        (np.zeros((4, 3, 16, 16), np.uint8), "save images.transpose(0, 2, 3, 1)"),
        (GOOD.astype(np.int64), "save images.astype('uint8')"),
        (GOOD * 2.0 - 1.0, "save (images + 1) / 2"),
        (GOOD.astype(np.uint16) + 4000, "save images / white"),
    ],
)
def test_what_to_do_about_other_arrays_is_said(tmp_path, images, remedy):
    assert remedy in message(save(tmp_path / "a.npz", images=images))


def test_one_hot_labels_name_their_remedy(tmp_path):
    path = save(tmp_path / "a.npz", images=GOOD, labels=np.eye(4, dtype=int))
    assert "labels.argmax(1)" in message(path)


def test_an_array_that_claims_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**60, 4, 5)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images.npy", header.getvalue())
    assert "needs more memory than there is" in message(tmp_path / "a.npz")


def test_npy_under_the_name_of_npz(tmp_path):
    np.save(tmp_path / "a.npy", GOOD)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    assert "as .npz without pickles (File is not a zip file); save" in message(tmp_path / "a.npz")

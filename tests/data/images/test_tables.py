"""Parquet files and hub data sets, without a network."""

import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.images.samples import (
    SMALL,
    assert_same,
    counted,
    fill,
    held_out,
    message,
    picture,
)

from openunite.data.images.dataset import (
    open_images,
)
from openunite.data.images.look import ImageSummary, inspect_images


def table(path: Path, count: int, first: int = 0, **columns: list) -> Path:
    """Parquet with undeclared columns, as pandas or pyarrow write it."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = []
    for i in range(first, first + count):
        file = io.BytesIO()
        picture(i).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": rows, **columns}), path)
    return path


def test_parquet_file(tmp_path, monkeypatch):
    path = table(tmp_path / "set.parquet", 8, label=list("abababab"))
    data = open_images(path, **SMALL)
    assert (data.name, len(data.train), len(data.test)) == ("set", 7, 1)
    assert data.class_names == ("a", "b")
    flat = open_images(fill(tmp_path / "flat", 8), **SMALL)
    assert held_out(flat) == held_out(data)  # the same files in another container
    reads = counted(monkeypatch)
    assert_same(open_images(path, **SMALL, memory_limit=0), data)
    assert reads == []
    again = pickle.loads(pickle.dumps(data.train))
    assert torch.equal(again.batch([1]).data, data.train.batch([1]).data)
    assert inspect_images(path) == ImageSummary(8, 4, 5, 3, 2)


def test_parquet_folder_with_splits(tmp_path):
    for folder in ("a", "b/data"):
        table(tmp_path / folder / "train-00000-of-00002.parquet", 3, fine_label=[0, 1, 2])
        table(tmp_path / folder / "train-00001-of-00002.parquet", 2, first=3, fine_label=[0, 1])
        table(tmp_path / folder / "test-00000-of-00001.parquet", 2, first=9, fine_label=[2, 1])
        data = open_images(tmp_path / folder.split("/")[0], **SMALL)
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1]
        assert data.test.labels.tolist() == [2, 1]
        assert np.array_equal(data.test.batch([0]).data[0].permute(1, 2, 0), picture(9))


def test_parquet_with_declared_features(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"photo": datasets.Image(), "class": datasets.ClassLabel(names=["no", "yes", "never"])}
    )
    rows = {"photo": [picture(i) for i in range(8)], "class": [0, 1] * 4}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "p.parquet")
    data = open_images(tmp_path / "p.parquet", **SMALL, holdout_share=0.5)
    assert data.class_names == ("no", "yes", "never")
    assert len(data.train) == 4
    flat = open_images(fill(tmp_path / "flat", 8), **SMALL, holdout_share=0.5)
    assert held_out(flat) == held_out(data)  # hashes are of the files, not of decoded pixels


def test_parquet_with_pixels(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pixels = [np.asarray(picture(i)).tolist() for i in range(3)]
    pq.write_table(pa.table({"pixel_values": pixels}), tmp_path / "p.parquet")
    data = open_images(tmp_path / "p.parquet", **SMALL)
    assert held_out(data) < {
        np.ascontiguousarray(np.asarray(picture(i)).transpose(2, 0, 1)).tobytes() for i in range(3)
    }


def test_parquet_errors(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "a.parquet").write_text("no table")
    assert "cannot read" in message(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["x", "y"]}), tmp_path / "b.parquet")
    assert "needs one image column" in message(tmp_path / "b.parquet")
    path = table(tmp_path / "c.parquet", 3, label=[0, -1, 1])
    assert "between 0 and 1, got -1 to 1" in message(path)
    path = table(tmp_path / "d.parquet", 3, label=[0, None, 1])
    assert "empty entries" in message(path)
    path = table(tmp_path / "e.parquet", 3, label=[0.5, 0.1, 1.0])
    assert "must be integers" in message(path)


def test_broken_rows_are_named(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    good = table(tmp_path / "x.parquet", 4)
    rows = [row["bytes"] for row in pq.read_table(good)["image"].to_pylist()]
    pq.write_table(pa.table({"img": [*rows, b"", None, b"junk"]}), tmp_path / "y.parquet")
    data = open_images(tmp_path / "y.parquet", **SMALL, max_bad_share=0.5)
    assert [item.name for item in data.skipped] == ["train[4]", "train[5]", "train[6]"]


def hub(monkeypatch, splits: dict[str, dict[str, list]]) -> list[str]:
    """Stands in for the network; returns the ids asked for."""
    datasets = pytest.importorskip("datasets")
    asked: list[str] = []

    def load(name: str) -> object:
        asked.append(name)
        if not splits:
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist\nmore")
        return datasets.DatasetDict(
            {key: datasets.Dataset.from_dict(rows) for key, rows in splits.items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def rows(first: int, count: int, label: int | None = None) -> dict[str, list]:
    images = {"image": [picture(i) for i in range(first, first + count)]}
    return images if label is None else {**images, "label": [label] * count}


def test_hub(monkeypatch):
    asked = hub(monkeypatch, {"train": rows(0, 3, 1), "validation": rows(5, 2, 0)})
    data = open_images("someone/pictures-2.0", **SMALL)
    assert asked == ["someone/pictures-2.0"]
    assert (data.name, len(data.train), len(data.test)) == ("someone/pictures-2.0", 3, 2)
    assert data.train.labels.tolist() == [1, 1, 1]
    assert data.test.labels.tolist() == [0, 0]


def test_hub_test_split_without_labels_is_passed_over(monkeypatch):
    splits = {"train": rows(0, 3, 0), "test": rows(5, 2, -1), "validation": rows(8, 1, 0)}
    hub(monkeypatch, splits)
    assert len(open_images("pictures", **SMALL).test) == 1


def test_hub_with_one_split(monkeypatch):
    hub(monkeypatch, {"test": rows(0, 4)})
    data = open_images("pictures", **SMALL)
    assert (len(data.train), len(data.test), data.num_classes) == (3, 1, 0)
    hub(monkeypatch, {"a": rows(0, 4), "b": rows(5, 4)})
    assert "no train images" in message("pictures")


def test_unknown_hub_id(monkeypatch):
    asked = hub(monkeypatch, {})
    text = message("no-such-set", FileNotFoundError)
    assert "'no-such-set' is neither an existing path nor a hub data set" in text
    assert "Dataset 'no-such-set' doesn't exist)" in text
    for path in ("/no/such", "./no", "~/no", "a/b/c", Path("no-such"), "pictures.zip"):
        message(path, FileNotFoundError)
    assert asked == ["no-such-set"]


def write(path: Path, **columns: list) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_a_table_of_names_opens_files_of_its_folder_only(tmp_path):
    fill(tmp_path / "set" / "files", 4)
    picture(9).save(tmp_path / "private.png")
    names = [f"files/{i:04}.png" for i in range(4)]
    names += [str(tmp_path / "private.png"), "../private.png", "none.png", "x" * 5000, "files"]
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "private.png")
    path = write(tmp_path / "set" / "a.parquet", image=[*names, "link.png"])
    data = open_images(path, **SMALL, max_bad_share=0.9)
    assert len(data.train) + len(data.test) == 4
    reasons = [item.reason for item in data.skipped]
    assert [("lies outside" in reason) for reason in reasons] == [True, True, *[False] * 3, True]
    assert "no file none.png in" in reasons[2]
    assert "text, expected the bytes of an image or the path of one" in reasons[3]
    pairs = [{"bytes": None, "path": str(tmp_path / "private.png")}] * 4
    path = write(tmp_path / "set" / "b.parquet", image=pairs)
    assert "lies outside" in message(path)


def test_the_first_reason_is_said_where_nothing_can_be_read(tmp_path):
    path = write(tmp_path / "a.parquet", image=["none.png", "other.png"])
    with pytest.raises(ValueError, match=r"the first is train\[0\]: no file none.png in"):
        inspect_images(path)


def test_columns_that_are_no_labels_are_told(tmp_path):
    path = table(tmp_path / "a.parquet", 4, category=[0, 1, 0, 1], caption=list("abcd"))
    assert open_images(path, **SMALL).notes == (
        "category, caption can become conditions; "
        "classes are read from a column label, labels, fine_label, class",
    )


@pytest.mark.parametrize("test", ["test", "Testing", "val"])
def test_tables_in_split_folders(tmp_path, test):
    table(tmp_path / "Train" / "0.parquet", 4, label=[0, 1, 0, 1])
    table(tmp_path / test / "0.parquet", 2, first=50, label=[1, 0])
    data = open_images(tmp_path, **SMALL)
    assert (len(data.train), data.test.labels.tolist()) == (4, [1, 0])


def test_images_beside_a_table(tmp_path):
    folder = fill(tmp_path / "flat", 4)
    write(folder / "captions.parquet", image=["0000.png"], caption=["x"])
    data = open_images(folder, **SMALL)
    assert (len(data.train), data.notes) == (3, ("1 .parquet file left out (captions.parquet)",))
    table(folder / "more.parquet", 4)
    assert "has images and also more.parquet, which holds images" in message(folder)


def test_saved_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(2)})
    train, test = (
        datasets.Dataset.from_dict(rows(first, 4, 1), features=features) for first in (0, 50)
    )
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(tmp_path / "two")
    assert len(open_images(tmp_path / "one", **SMALL).train) == 3
    data = open_images(tmp_path / "two", **SMALL)
    assert (len(data.train), data.test.labels.tolist()) == (4, [1, 1, 1, 1])
    (tmp_path / "one" / "state.json").write_text("{")
    assert "as a saved data set" in message(tmp_path / "one")


def test_labels_of_a_table_are_no_counts(tmp_path):
    path = table(tmp_path / "a.parquet", 4, label=[10**12, 3, 3, 10**12])
    assert open_images(path, **SMALL).class_names == ("3", "1000000000000")
    path = table(tmp_path / "b.parquet", 12, label=[str(i) for i in range(12)])
    assert open_images(path, **SMALL).class_names == tuple(map(str, range(12)))


def test_hub_splits_that_are_not_used_are_told(monkeypatch):
    splits = {"train": rows(0, 3, 0), "test": rows(5, 2, 0), "dev": rows(8, 1, 0)}
    hub(monkeypatch, splits)
    data = open_images("pictures", **SMALL)
    assert (len(data.test), data.notes[0]) == (2, "1 split left out (dev)")


def test_without_the_package(tmp_path, monkeypatch):
    """It is an extra: what needs it says so, and what does not need it works."""
    path = table(tmp_path / "t" / "a.parquet", 4)
    folder = fill(tmp_path / "flat", 4)
    table(folder / "more.parquet", 4)
    for module in ("datasets", "pyarrow"):
        monkeypatch.setitem(sys.modules, module, None)
    needs = "needs datasets: pip install 'openunite[hub]'"
    assert f"reading {path} {needs}" in message(path, ImportError)
    assert f"reading {tmp_path / 't'} {needs}" in message(tmp_path / "t", ImportError)
    text = message("photo", ImportError)
    assert text == f"'photo' is no existing path, and a data set of the hub {needs}"
    assert len(open_images(folder, **SMALL).train) == 3

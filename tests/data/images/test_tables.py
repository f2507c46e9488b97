"""Parquet files and hub data sets, without a network."""

import io
import pickle
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
    assert torch.equal(pickle.loads(pickle.dumps(data.train))[1]["data"], data.train[1]["data"])
    assert inspect_images(path) == ImageSummary(8, 4, 5, 3, 2)


def test_parquet_folder_with_splits(tmp_path):
    for folder in ("a", "b/data"):
        table(tmp_path / folder / "train-00000-of-00002.parquet", 3, fine_label=[0, 1, 2])
        table(tmp_path / folder / "train-00001-of-00002.parquet", 2, first=3, fine_label=[0, 1])
        table(tmp_path / folder / "test-00000-of-00001.parquet", 2, first=9, fine_label=[2, 1])
        data = open_images(tmp_path / folder.split("/")[0], **SMALL)
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1]
        assert data.test.labels.tolist() == [2, 1]
        assert np.array_equal(data.test[0]["data"].permute(1, 2, 0), picture(9))


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

"""Columns beside images: tables, captions and JSON beside files, in tar shards, and in memory."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.images.samples import SMALL, fill, message, picture

from openunite.data.images.dataset import ImageData, open_images
from openunite.data.images.prepare import prepare_images


def columns(data: ImageData) -> dict[str, dict[int, Any]]:
    """Every column as a mapping from a pixel, which tells the images apart, to the value."""
    found: dict[str, dict[int, Any]] = {}
    for part in (data.train, data.test):
        keys = part.batch(range(len(part))).data.flatten(1).sum(dim=1).tolist()
        for name, column in part.columns.items():
            found.setdefault(name, {}).update(zip(keys, column(), strict=True))
    return found


def key(seed: int) -> int:
    return int(np.asarray(picture(seed)).sum())


def test_tables_of_datasets_are_read_in_and_above_folders_of_images(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 10)):
        for i, name in enumerate(("cat", "dog")):
            fill(tmp_path / split / name, 2, first=first + 4 * i)
    (tmp_path / "train" / "cat" / "metadata.csv").write_text(
        "\ufefffile_name,caption,score\n0000.png,a cat,1.5\n0001.png,,\n", encoding="utf-8"
    )
    rows = [
        {"file_name": "train/dog/0004.png", "caption": "a dog", "tags": ["big", "old"]},
        {"file_name": "./test/cat/0010.png", "score": 2},
        {"file_name": "0005.png", "score": 3},
    ]
    table = tmp_path / "metadata.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    data = open_images(tmp_path, **SMALL)
    found = columns(data)
    assert set(found) == {"caption", "tags", "score"}
    assert found["caption"][key(0)] == "a cat"
    assert found["caption"][key(4)] == "a dog"
    assert found["tags"][key(4)] == ["big", "old"]
    assert (found["score"][key(0)], found["score"][key(10)]) == ("1.5", 2)
    assert found["score"][key(5)] is None
    assert data.left_out == ()
    assert data.notes == (
        f"{table} has 1 rows without an image (0005.png); file_name is relative to the folder of "
        "the table, as in train/cat/0000.png",
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metadata.csv", "file_name,a\n0000.png,1\n0000.png,2\n", "two rows for 0000.png"),
        ("metadata.csv", "file_name,a\n,1\n0000.png,2\n", "row 1 of .* has no file_name"),
        ("metadata.csv", "file_name,a\n0000.png,1,2\n", "a row is longer than the first one"),
        ("metadata.jsonl", '{"file_name": "0000.png"}\n[1]\n', "line 2 is no mapping"),
        ("metadata.jsonl", "{\n", "cannot read"),
    ],
)
def test_a_table_that_is_wrong_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (fill(tmp_path / "x", 3) / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        open_images(tmp_path / "x", **SMALL)


def test_a_table_without_names_of_files_is_a_note(tmp_path: Path) -> None:
    table = fill(tmp_path / "x", 3) / "metadata.csv"
    table.write_text("caption\nred\n")
    data = open_images(tmp_path / "x", **SMALL)
    assert data.notes == (f"{table} is not used, for it has no file_name",)
    assert data.train.columns == {}


def test_small_files_beside_images_are_their_columns(tmp_path: Path) -> None:
    folder = fill(tmp_path / "x", 4)
    (folder / "0000.txt").write_text("  a red\n bag ")
    (folder / "0001.JSON").write_text('{"caption": "json", "size": 3}')
    (folder / "0002.txt").write_text("text")
    (folder / "0002.json").write_text('{"caption": "json", "size": 4}')
    (folder / "0003.json").write_text("[1")
    (folder / "other.txt").write_text("beside no image")
    data = open_images(folder, **SMALL)
    found = columns(data)
    assert found["caption"] == {key(0): "a red bag", key(1): "json", key(2): "text", key(3): None}
    assert found["size"] == {key(0): None, key(1): 3, key(2): 4, key(3): None}
    assert data.notes == (
        "1 .txt file left out (other.txt)",
        "1 files beside images hold no mapping in JSON (0003.json)",
    )


def test_members_of_tar_shards_are_columns(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for i in range(3):
            file = io.BytesIO()
            picture(i).save(file, "PNG")
            add(f"{i}.png", file.getvalue())
            add(f"{i}.txt", f"number {i}".encode())
        add("1.json", b'{"size": 7, "caption": "not this"}')
        add("9.txt", b"lonely")
    data = open_images(folder, **SMALL)
    found = columns(data)
    assert found["caption"] == {key(i): f"number {i}" for i in range(3)}
    assert found["size"] == {key(0): None, key(1): 7, key(2): None}
    assert [(item.kind, item.count) for item in data.left_out] == [(".txt member", 1)]


def test_columns_of_a_table_keep_classes_by_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["a", "b"]),
        mood=datasets.ClassLabel(names=["calm", "wild"]),
        tags=datasets.Sequence(datasets.Value("string")),
        size=datasets.Value("float32"),
        vector=datasets.Sequence(datasets.Value("float32")),
    )
    rows = {
        "image": [picture(i) for i in range(4)],
        "label": [0, 1, 0, 1],
        "mood": [0, 1, None, -1],
        "tags": [["x"], [], ["x", "y"], ["y"]],
        "size": [0.5, None, 2.0, 3.0],
        "vector": [[0.0, 1.0]] * 4,
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    data = open_images(tmp_path / "a.parquet", **SMALL, cache_dir=tmp_path / "cache")
    found = columns(data)
    assert set(found) == {"mood", "tags", "size"}
    assert found["mood"] == {key(0): "calm", key(1): "wild", key(2): None, key(3): None}
    assert found["tags"][key(2)] == ["x", "y"]
    assert found["size"] == {key(0): 0.5, key(1): None, key(2): 2.0, key(3): 3.0}
    assert [item.examples for item in data.left_out] == [("vector",)]


def test_a_prepared_copy_has_the_columns_of_its_source(tmp_path: Path) -> None:
    table = fill(tmp_path / "x", 5) / "metadata.csv"
    table.write_text("file_name,caption\n0000.png,red\n0004.png,blue\n")

    def prepare() -> Any:
        return prepare_images(
            tmp_path / "x", tmp_path / "copy", size=4, shard_size=2, cache_dir=tmp_path / "cache",
            progress=False,
        )  # fmt: skip

    first = prepare()
    found = open_images(tmp_path / "copy", **SMALL)
    values = [v for part in (found.train, found.test) for v in part.columns["caption"]()]
    assert sorted(values, key=str) == [None, None, None, "blue", "red"]
    table.write_text("file_name,caption\n0000.png,red\n0004.png,green\n")
    again = prepare()
    assert (first.written, again.written, again.kept) == (3, 1, 2)


def test_columns_of_rows_in_memory() -> None:
    rows = [{"image": picture(i), "label": i % 2, "caption": f"number {i}"} for i in range(4)]
    data = open_images(rows, **SMALL)
    assert columns(data) == {"caption": {key(i): f"number {i}" for i in range(4)}}
    assert data.num_classes == 2


def test_columns_of_arrays() -> None:
    images = np.stack([np.asarray(picture(i)) for i in range(4)])
    given = {
        "images": images,
        "light": images.mean(axis=(1, 2, 3)),
        "tags": [["x"], ["x", "y"], [], ["y"]],
        "mean": np.zeros(3),
    }
    data = open_images(given, **SMALL)
    found = columns(data)
    assert set(found) == {"light", "tags"}
    assert found["light"][key(2)] == pytest.approx(images[2].mean())
    assert found["tags"][key(1)] == ["x", "y"]
    assert [item.examples for item in data.left_out] == [("mean",)]


def test_a_folder_without_images_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name\na.png\n")
    assert "has no images" in message(tmp_path)

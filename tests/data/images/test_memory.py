"""Images that a program has in memory, as a source; what is refused and why."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openunite.data.images.dataset import open_images
from openunite.data.images.memory import content_of, from_memory
from openunite.data.images.pixels import open_image

SIZE = {"height": 4, "width": 5, "channels": 3, "progress": False}


def pictures(count: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 4, 5, 3), dtype=np.uint8)


class Rows:
    """A data set: a length, items by number, and what else it knows."""

    def __init__(self, items: list[Any], **known: Any) -> None:
        self.items = items
        vars(self).update(known)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def read(data: Any) -> np.ndarray:
    """All images of a source as it would decode them, RGB (N, H, W, 3)."""
    found = from_memory(data)
    images = [open_image(found.items.read(i)).convert("RGB") for i in range(len(found.items))]
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize(
    "data",
    [
        [Image.fromarray(image) for image in pictures()],
        list(pictures()),
        list(torch.from_numpy(pictures()).permute(0, 3, 1, 2)),
        list(torch.from_numpy(pictures()).permute(0, 3, 1, 2).float() / 255.0),
        pictures(),
        pictures().astype(np.float32) / 255.0,
        torch.from_numpy(pictures()).permute(0, 3, 1, 2),
        {"images": pictures()},
        Rows([{"image": Image.fromarray(image)} for image in pictures()]),
        Rows([{"pixel_values": image, "text": "?"} for image in pictures()]),
    ],
    ids=[
        *("PIL", "arrays", "tensors", "float tensors", "array", "float array", "tensor", "mapping"),
        *("rows", "rows with another column"),
    ],
)
def test_every_form_gives_the_same_pixels(data: Any) -> None:
    assert np.array_equal(read(data), pictures())
    assert from_memory(data).class_names == ()


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_any_mode_are_read_as_from_a_lossless_file(mode: str) -> None:
    image = Image.fromarray(pictures()[0])
    image = image.convert("L").convert(mode) if mode in ("I;16", "F") else image.convert(mode)
    content = content_of(image, 0)
    assert isinstance(content, bytes)
    first = open_image(content)
    assert first.size == image.size
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(first), np.asarray(image))


def test_eight_bit_images_are_told_apart_by_their_pixels_alone() -> None:
    """Not by how some version of Pillow would pack them."""
    images = [Image.fromarray(image) for image in pictures()]
    prints = [open_images(data, **SIZE).fingerprint for data in (images, pictures())]
    assert prints[0] == prints[1]


def test_a_color_that_means_transparent_is_kept() -> None:
    image = Image.fromarray(pictures()[0])
    image.info["transparency"] = tuple(map(int, pictures()[0, 0, 0]))
    content = content_of(image, 0)
    assert open_image(content).mode == "RGBA"


@pytest.mark.parametrize(
    "labeled",
    [
        ([Image.fromarray(image) for image in pictures()], [0, 1, 2] * 4),
        [(image, i % 3) for i, image in enumerate(pictures())],
        [[image, np.int64(i % 3)] for i, image in enumerate(pictures())],
        [(image, torch.tensor(i % 3)) for i, image in enumerate(pictures())],
        Rows([{"img": image, "fine_label": i % 3} for i, image in enumerate(pictures())]),
        (pictures(), np.arange(12) % 3),
        (torch.from_numpy(pictures()).permute(0, 3, 1, 2), torch.arange(12) % 3),
        {"images": pictures(), "labels": np.arange(12) % 3},
    ],
)
def test_labels_come_with_the_images(labeled: Any) -> None:
    found = from_memory(labeled)
    assert found.labels.tolist() == [0, 1, 2] * 4
    assert len(found.class_names) == 3
    assert np.array_equal(read(labeled), pictures())


def test_labels_may_be_names() -> None:
    words = ["eel", "cat", "dog"] * 4
    found = from_memory(list(zip(pictures(), words, strict=True)))
    assert list(found.class_names) == ["cat", "dog", "eel"]
    assert [found.class_names[i] for i in found.labels] == words


def test_names_of_classes_come_from_the_data_set() -> None:
    items = [(image, i % 3) for i, image in enumerate(pictures())]
    assert from_memory(Rows(items, classes=["a", "b", "c"])).class_names == ("a", "b", "c")
    feature = type("ClassLabel", (), {"names": ["x", "y", "z"]})()
    rows = [{"image": image, "label": i % 3} for i, image in enumerate(pictures())]
    assert from_memory(Rows(rows, features={"label": feature})).class_names == ("x", "y", "z")


def test_splits_of_arrays_are_kept() -> None:
    data = {"x_train": pictures()[:9], "x_test": pictures()[9:]}
    found = open_images(data, **SIZE)
    assert (len(found.train), len(found.test)) == (9, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected images, got an empty list; give at least 2"),
        ((image for image in pictures()), "a data set with a length, got generator; make a list"),
        (7, "expected a path, a list of images, an array or a data set .* got int"),
        (["a.png", "b.png"], "item 0 is a str; expected a PIL image, an array"),
        (Rows([{"picture_of": 1}]), "item 0 has the columns picture_of; call the one with images"),
        ([(pictures()[0], 1), pictures()[1]], "1 of 2 items have a label; give all of them one"),
        ((list(pictures()), [0, 1]), "12"),
        ({"pixels": pictures()}, "images in memory needs an array 'images', 'jpeg' or 'x_train'"),
        (np.zeros((4, 5), np.uint8), "images"),
        ([np.zeros((2, 2, 2, 2, 2), np.uint8)], "item"),
    ],
)
def test_what_is_no_images_is_one_sentence(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        from_memory(data)
    assert "\n" not in str(caught.value)


def test_items_that_change_are_refused() -> None:
    class Random(Rows):
        def __getitem__(self, i: int) -> Any:
            return np.random.default_rng().integers(0, 256, (4, 5, 3), dtype=np.uint8)

    with pytest.raises(ValueError, match="item 0 of the data differs when it is read twice"):
        from_memory(Random([None] * 3))


def test_an_image_that_is_too_small_is_left_out_by_its_number() -> None:
    images = [*pictures(), np.zeros((2, 2, 3), np.uint8)]
    found = open_images(images, **SIZE, min_side=3, max_bad_share=0.1)
    assert [item.name for item in found.skipped] == ["item 12"]

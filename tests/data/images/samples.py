"""Small image sources, and what several test files ask of opened ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from openunite.data.images import scan as scan_module
from openunite.data.images.dataset import ImageData, ImageDataset, open_images

SMALL = {"height": 4, "width": 5, "channels": 3, "progress": False}


def picture(seed: int, size: tuple[int, int] = (5, 4)) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def fill(folder: Path, count: int, first: int = 0, size: tuple[int, int] = (5, 4)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(first + i, size).save(folder / f"{first + i:04}.png")
    return folder


def contents(data: ImageData) -> dict[str, torch.Tensor]:
    """Everything that can be asked of both splits."""
    parts = {"train": data.train, "test": data.test}
    return {
        f"{name} {key}": value
        for name, part in parts.items()
        for batch in [part.batch(range(len(part)))]
        for key, value in {"data": batch.data, "index": batch.index, "label": part.labels}.items()
    }


def assert_same(first: ImageData, second: ImageData) -> None:
    a, b = contents(first), contents(second)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert first.fingerprint == second.fingerprint


def message(source: object, kind: type[Exception] = ValueError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        open_images(source, **{**SMALL, **options})
    text = str(caught.value)
    assert "\n" not in text
    return text


def held_out(data: ImageData) -> set[bytes]:
    return pictures(data.test)


def pictures(part: ImageDataset) -> set[bytes]:
    return {image.numpy().tobytes() for image in part.batch(range(len(part))).data}


def counted(monkeypatch) -> list[int]:
    """Grows by one entry per item that the scan reads."""
    reads: list[int] = []
    original = scan_module.read_item

    def read(source, i, spec):
        reads.append(i)
        return original(source, i, spec)

    monkeypatch.setattr(scan_module, "read_item", read)
    return reads


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **{key: np.asarray(value) for key, value in arrays.items()})
    return path

"""Samples of images in files."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openunite.data.images.pixels import BadImage, open_image
from openunite.drawing.pictures import image_grid
from openunite.evaluation.images.sets import to_bytes
from openunite.files import whole_file, write_rows


def write_images(path: Path, samples: Collection[Tensor], labels: Sequence[int] | None) -> int:
    """One grid (.png), or arrays `images` and, with classes, `labels` (.npz)."""
    with whole_file(path) as file:
        if path.suffix.lower() == ".png":
            images = torch.stack(list(samples))
            image_grid(images, columns=min(8, len(images))).save(file, "PNG")
        else:
            rows = (_pixels(sample).permute(1, 2, 0).numpy() for sample in samples)
            others = {} if labels is None else {"labels": np.array(labels)}
            write_rows(file, "images", rows, len(samples), **others)
    return len(samples)


def write_image(path: Path, sample: Tensor) -> None:
    """One image in its own size."""
    with whole_file(path) as file:
        image_grid(_pixels(sample)[None], columns=1, scale=1).save(file, "PNG")


def is_image(path: Path) -> bool:
    """Whether there is a file that can be read whole."""
    try:
        open_image(path.read_bytes())
    except (OSError, BadImage):
        return False
    return True


def _pixels(image: Tensor) -> Tensor:
    """uint8, which it may be already."""
    return image if image.dtype == torch.uint8 else to_bytes(image[None])[0]

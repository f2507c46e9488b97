"""Images in files: samples, and inputs beside outputs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from openunite.data.images.pixels import BadImage, open_image
from openunite.drawing.pictures import image_grid, pair_grid
from openunite.evaluation.images.metrics import psnr
from openunite.evaluation.images.sets import to_bytes
from openunite.files import atomic_file, write_rows
from openunite.task import Task


class ImageFiles(Task):
    """What commands write of images, and what they say of it."""

    outputs = (".png", ".npz", "")
    file_suffix = ".png"
    pair_outputs = (".png",)

    def write(
        self, path: Path, samples: Collection[Tensor], labels: Sequence[int] | None = None
    ) -> int:
        """Write one grid (.png), or arrays `images` and, with classes, `labels` (.npz)."""
        with atomic_file(path) as file:
            if path.suffix.lower() == ".png":
                images = torch.stack(list(samples))
                image_grid(images, columns=min(8, len(images))).save(file, "PNG")
            else:
                rows = (_to_bytes(sample).permute(1, 2, 0).numpy() for sample in samples)
                others = {} if labels is None else {"labels": np.array(labels)}
                write_rows(file, "images", rows, len(samples), **others)
        return len(samples)

    def write_one(self, path: Path, sample: Tensor) -> None:
        """Write one image in its own size."""
        with atomic_file(path) as file:
            image_grid(_to_bytes(sample)[None], columns=1, scale=1).save(file, "PNG")

    def is_sound(self, path: Path) -> bool:
        try:
            open_image(path.read_bytes())
        except (OSError, BadImage):
            return False
        return True

    def pack(self, samples: Sequence[Tensor]) -> dict[str, Tensor]:
        """Images of 256 levels, as files have them."""
        return {"images": to_bytes(torch.stack(list(samples)))}

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        return list(tensors["images"])

    def write_pairs(
        self, path: Path, names: Sequence[str], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> None:
        """Write a picture of inputs above outputs."""
        with atomic_file(path) as file:
            pair_grid(torch.stack(list(inputs)), torch.stack(list(outputs))).save(file, "PNG")

    def compare(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> str:
        found = psnr(torch.stack(list(outputs)), torch.stack(list(inputs)))
        return f"PSNR {found.mean():.2f} dB"


def _to_bytes(image: Tensor) -> Tensor:
    """The image as uint8, which it may be already."""
    return image if image.dtype == torch.uint8 else to_bytes(image[None])[0]

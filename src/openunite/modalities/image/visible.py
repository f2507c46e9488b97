"""Which patches of an image are seen: drawn for training, or chosen by a mask of pixels."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from openunite.data.images.pixels import BadImage, PixelSpec, image_to_array, open_image

NUM_CHOICES = 6  # random numbers beside those of the patches


def draw_parts(grid: tuple[int, int], uniform: Float[Tensor, "b u"]) -> Bool[Tensor, "b n"]:
    """Random parts of a grid of N patches, from N + 6 numbers in (0, 1) for each image.

    Half of the time each patch is seen with a probability that is drawn from U(0, 1); else a
    rectangle, whose share of the image is drawn so, is seen or hidden.
    """
    rows, columns = grid
    choices, patches = uniform.split([NUM_CHOICES, rows * columns], dim=1)
    kind, share, aspect, down, right, inverted = choices.split(1, dim=1)
    height, width = share**aspect, share ** (1.0 - aspect)
    row, column = torch.meshgrid(
        (torch.arange(rows, device=uniform.device) + 0.5) / rows,
        (torch.arange(columns, device=uniform.device) + 0.5) / columns,
        indexing="ij",
    )
    below, beside = row.flatten() - (1.0 - height) * down, column.flatten() - (1.0 - width) * right
    inside = (below >= 0.0) & (below < height) & (beside >= 0.0) & (beside < width)
    return torch.where(kind < 0.5, patches < share, inside ^ (inverted < 0.5))


def whole_patches(known: Bool[Tensor, "b h w"], patch_size: int) -> Bool[Tensor, "b n"]:
    """The patches, row-major, all of whose pixels are known."""
    unknown = torch.nn.functional.max_pool2d(
        (~known).float()[:, None], patch_size, stride=patch_size, ceil_mode=True
    )
    return unknown.flatten(1) == 0.0


def read_mask(mask: Any, height: int, width: int) -> Tensor:
    """A mask of pixels: arrays and tensors unchanged, images and their files True where white.

    Images are resized and cropped as others are. ValueError for a file that is no image.
    """
    if isinstance(mask, str | Path):
        try:
            mask = open_image(Path(mask).read_bytes())
        except BadImage as error:
            raise ValueError(f"{mask}: {error}") from error
    if not isinstance(mask, Image.Image):
        return torch.as_tensor(mask)
    pixels = image_to_array(mask.convert("L"), PixelSpec(height, width, 1))
    return torch.from_numpy(pixels[0] > 127)

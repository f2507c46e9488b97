"""Samples as lists that a notebook shows as one picture."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openunite.data.atoms.structure import Structure
from openunite.drawing.pictures import image_grid
from openunite.drawing.structures import structure_grid

_COLUMNS, _MOST = 8, 64  # of the picture in a notebook


class Images(list[Any]):
    """A list of images, PIL or tensors (C, H, W), that a notebook shows as a grid."""

    @property
    def images(self) -> list[Image.Image]:
        """The images as a plain list of PIL images, under the name that diffusers uses."""
        return [
            x if isinstance(x, Image.Image) else image_grid(x[None], columns=1, scale=1)
            for x in self
        ]

    def _repr_png_(self) -> bytes | None:
        if not self:
            return None
        arrays = [np.atleast_3d(np.array(image)) for image in self.images[:_MOST]]
        images = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        return _png(image_grid(images, columns=min(_COLUMNS, len(images))))


class Structures(list[Structure]):
    """A list of molecules or crystals that a notebook shows as a grid of balls and sticks."""

    def _repr_png_(self) -> bytes | None:
        if not self:
            return None
        shown = self[:_MOST]
        return _png(structure_grid(shown, min(_COLUMNS, len(shown))))


def shown(samples: Iterable[Any]) -> list[Any]:
    """Samples as `Images` or `Structures`; others as a plain list."""
    found = list(samples)
    if found and all(isinstance(x, Structure) for x in found):
        return Structures(found)
    if found and all(isinstance(x, Tensor) and x.ndim == 3 and 1 <= len(x) <= 4 for x in found):
        return Images(found)
    return found


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()

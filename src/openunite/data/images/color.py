"""Channels of image tensors."""

from jaxtyping import Float
from torch import Tensor


def to_rgb(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Convert to RGB: repeat gray (1 channel), blend alpha (the last of 2 or 4) over white."""
    if images.shape[1] in (2, 4):
        alpha = images[:, -1:]
        images = images[:, :-1] * alpha + (1.0 - alpha)
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images

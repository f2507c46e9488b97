"""The interface of feature extractors: a name, a checksum, a width, and images -> features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openunite.data.images.color import to_rgb


@dataclass(frozen=True)
class Features:
    """Features (B, D), float32, and class logits (B, classes) if the network has them."""

    values: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"] | None = None


class Extractor(Protocol):
    """Images (B, C, H, W) in [0, 1], any size, 1 to 4 channels -> features.

    `label` is the name of Frechet distances of these features; it is "FID" only for the published
    weights. `class_names` are the classes of the logits, empty if class accuracy has no meaning.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def checksum(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Features: ...


@dataclass(frozen=True)
class CallableExtractor:
    """An extractor made of any function of images that returns features, or features and logits.

    `checksum` should change with the weights: `module_checksum` gives one for a torch module.
    """

    name: str
    dim: int
    checksum: str
    function: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    class_names: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"FD-{self.name}"

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Features:
        check_images(images)
        found = self.function(images)
        values, logits = found if isinstance(found, tuple) else (found, None)
        if values.shape != (len(images), self.dim):
            raise ValueError(
                f"extractor {self.name} promised features ({len(images)}, {self.dim}), gave "
                f"{tuple(values.shape)}; correct its dim or pool its output"
            )
        return Features(values.float(), None if logits is None else logits.float())


def module_checksum(module: nn.Module) -> str:
    """A sha256 over the names and values of a module's state."""
    return tensor_checksum(module.state_dict())


def tensor_checksum(tensors: Mapping[str, Tensor]) -> str:
    """A sha256 over names and bytes, sorted by name (as bytes, because numpy has no bfloat16)."""
    total = sha256()
    for name, value in sorted(tensors.items()):
        total.update(name.encode())
        flat = value.detach().cpu().contiguous().flatten()
        total.update(flat.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def check_images(images: Tensor) -> None:
    """Raise ValueError unless images are floats (B, C, H, W) in [0, 1]."""
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"expected float images (B, C, H, W) in [0, 1], got {images.dtype} "
            f"{tuple(images.shape)}; divide bytes by 255"
        )
    if images.numel():
        low, high = (float(bound) for bound in images.aminmax())
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(
                f"expected images in [0, 1], got {low:.3g} to {high:.3g}; do not normalize them"
            )


def unit_rgb(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Images with three channels, float32, after a check of their range."""
    check_images(images)
    return to_rgb(images.float())


def resize(images: Float[Tensor, "b 3 h w"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Resize to a square, bicubic with antialiasing as in Pillow."""
    if images.shape[2:] == (side, side):
        return images
    resized = F.interpolate(
        images, (side, side), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp(0.0, 1.0)

"""Images: patches in, pixels out. Any height, width and patch size; 1 to 4 channels.

Sizes that are no multiple of the patch are padded at the right and the bottom by repeating the
last column and row before embedding; the decoder's output is cropped back.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.batch import Batch
from openunite.evaluation.images.perceptual import Distance, Lpips, gradient_distance
from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.image.visible import NUM_CHOICES, draw_parts
from openunite.modality import Embedder, Head, Modality
from openunite.nn.embeddings import sincos_grid


@dataclass(frozen=True)
class ImageShape:
    """Size of the images in pixels and of their patches."""

    height: int
    width: int
    channels: int
    patch_size: int

    def __post_init__(self) -> None:
        if not 1 <= self.channels <= 4:
            raise ValueError(f"images must have 1 to 4 channels, got {self.channels}")
        if not 1 <= self.patch_size <= min(self.height, self.width):
            raise ValueError(
                f"patch_size must lie between 1 and the shorter side of {self.height} x "
                f"{self.width} images, got {self.patch_size}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per row."""
        return ceil(self.height / self.patch_size), ceil(self.width / self.patch_size)

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def join(self, patches: Float[Tensor, "b n v"]) -> Float[Tensor, "b c h w"]:
        """Maps whose patches have these values: row by row, column by column, channel fastest."""
        tiles = patches.unflatten(1, self.grid)
        tiles = tiles.unflatten(-1, (self.patch_size, self.patch_size, -1))
        maps = tiles.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
        return maps[:, :, : self.height, : self.width]


class PatchEmbedder(Embedder):
    """Images (B, channels, H, W) in [0, 1] -> tokens (B, N, D), row-major, plus fixed positions."""

    positions: Tensor

    def __init__(self, shape: ImageShape, width: int, positions: str = "sincos") -> None:
        super().__init__()
        if positions not in ("sincos", "zero"):
            raise ValueError(f"patch positions must be 'sincos' or 'zero', got {positions!r}")
        self.shape, self.num_tokens = shape, shape.num_patches
        self.projection = nn.Conv2d(
            shape.channels, width, kernel_size=shape.patch_size, stride=shape.patch_size
        )
        table = sincos_grid(*shape.grid, width)
        self.register_buffer("positions", table if positions == "sincos" else 0.0 * table)

    def forward(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        expected = (self.shape.channels, self.shape.height, self.shape.width)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"expected images of shape (B, {', '.join(map(str, expected))}), got "
                f"{tuple(image.shape)}; resize them or convert their channels first"
            )
        rows, columns = self.shape.grid
        bottom = rows * self.shape.patch_size - self.shape.height
        right = columns * self.shape.patch_size - self.shape.width
        if bottom or right:
            image = nn.functional.pad(image, (0, right, 0, bottom), mode="replicate")
        return self.projection(image).flatten(2).transpose(1, 2) + self.positions


class PixelHead(Head):
    """States (B, N, D) -> images (B, channels, H, W); patch values go by row, column, channel.

    Every patch is a linear map of its own state. With `refine`, convolutions look across the
    borders of the patches afterwards.
    """

    def __init__(self, shape: ImageShape, width: int, *, refine: bool = False) -> None:
        super().__init__()
        self.shape, self.num_tokens = shape, shape.num_patches
        self.num_places = shape.height * shape.width if refine else 0
        self.projection = nn.Linear(width, shape.patch_size**2 * shape.channels)
        self.refinement = Refinement(shape, width) if refine else None
        self.register_buffer("positions", sincos_grid(*shape.grid, width), persistent=False)

    def forward(self, states: Float[Tensor, "b n d"]) -> Float[Tensor, "b c h w"]:
        image = self.shape.join(self.projection(states))
        return image if self.refinement is None else self.refinement(image, states)


class Refinement(nn.Module):
    """An image with a correction from three 3 x 3 convolutions; at the start the correction is 0.

    The convolutions see the pixels and `features` maps of the same size made from the states.
    """

    def __init__(self, shape: ImageShape, width: int, features: int = 8, hidden: int = 16) -> None:
        super().__init__()
        self.shape = shape
        self.features = nn.Linear(width, shape.patch_size**2 * features)
        self.conv_in = nn.Conv2d(shape.channels + features, hidden, 3, padding=1)
        self.conv_hidden = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.pixel_output = nn.Conv2d(hidden, shape.channels, 3, padding=1)

    def forward(
        self, image: Float[Tensor, "b c h w"], states: Float[Tensor, "b n d"]
    ) -> Float[Tensor, "b c h w"]:
        x = torch.cat([image, self.shape.join(self.features(states))], dim=1)
        x = nn.functional.silu(self.conv_in(x))
        x = nn.functional.silu(self.conv_hidden(x))
        return image + self.pixel_output(x)


@dataclass(frozen=True)
class ImageSettings:
    """Settings of images.

    `flip` mirrors half of the training images; `patch_positions` is "sincos" or, as in the release,
    "zero". `head` is "linear", where every patch of the output is made from its own token, or
    "convolutional", where convolutions remove the seams between patches. The loss is `l1_weight`
    times the mean absolute error and `l2_weight` times the mean squared one. `perceptual` adds a
    distance of `perceptual.py`, times `perceptual_weight`; `perceptual_path` is where LPIPS finds
    VGG16, if not in the caches.
    """

    height: int
    width: int
    channels: int
    patch_size: int
    flip: bool = False
    patch_positions: Literal["sincos", "zero"] = "sincos"
    head: Literal["linear", "convolutional"] = "linear"
    l1_weight: float = 1.0
    l2_weight: float = 0.0
    perceptual: Literal["none", "lpips", "gradients"] = "none"
    perceptual_weight: float = 1.0
    perceptual_path: str | None = None

    def __post_init__(self) -> None:
        weights = {"l1": self.l1_weight, "l2": self.l2_weight}
        if min(weights.values()) < 0.0 or not any(weights.values()):
            raise ValueError(f"expected l1_weight and l2_weight >= 0, one above 0, got {weights}")
        _ = self.shape  # raises ValueError for impossible sizes

    @property
    def shape(self) -> "ImageShape":
        """Size of the images and of their patches."""
        return ImageShape(self.height, self.width, self.channels, self.patch_size)


class ImageModality(Modality):
    """Stored form: uint8 (B, channels, H, W). Model form: float in [0, 1], not normalized."""

    Settings = ImageSettings
    settings: ImageSettings

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings)
        self.shape = settings.shape
        self._distance: Distance | None = None

    def embedder(self, width: int) -> PatchEmbedder:
        return PatchEmbedder(self.shape, width, self.settings.patch_positions)

    def head(self, width: int) -> PixelHead:
        return PixelHead(self.shape, width, refine=self.settings.head == "convolutional")

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        error = output.float() - batch.data
        settings, losses = self.settings, {}
        if settings.l1_weight:
            losses["l1"] = settings.l1_weight * error.abs().mean()
        if settings.l2_weight:
            losses["l2"] = settings.l2_weight * error.square().mean()
        if settings.perceptual != "none":
            distance = self.distance()(output, batch.data).mean()
            losses[settings.perceptual] = settings.perceptual_weight * distance
        return losses

    def distance(self) -> Distance:
        """The perceptual distance, loaded on first use: only training needs its weights.

        FileNotFoundError says where to put weights that are missing.
        """
        if self._distance is None:
            lpips, path = self.settings.perceptual == "lpips", self.settings.perceptual_path
            self._distance = Lpips.load(path) if lpips else gradient_distance
        return self._distance

    def use_distance(self, distance: Distance) -> None:
        """Replace the configured distance by another callable, such as `Lpips.random(0)`."""
        self._distance = distance

    def draw_visible(self, batch: Batch, random: SlotRandom, draw: int) -> Bool[Tensor, "b n"]:
        rows, columns = self.settings.shape.grid
        count = rows * columns + NUM_CHOICES
        return draw_parts((rows, columns), random.uniform(Stream.PARTIAL, count, draw=draw))

    def compile(self) -> None:
        if self.settings.perceptual == "lpips" and isinstance(distance := self.distance(), Lpips):
            distance.compile()

    def vgg_input(self) -> tuple[int, int, int] | None:
        if self.settings.perceptual != "lpips":
            return None
        return self.shape.channels, self.shape.height, self.shape.width

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        data = batch.data.to(torch.float32) / 255.0
        if self.settings.flip and random is not None:
            mirrored = random.uniform(Stream.AUGMENT)[:, None, None, None] < 0.5
            data = torch.where(mirrored, data.flip(-1), data)
        return batch.with_data(data)

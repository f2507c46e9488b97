"""Convert an image of any kind to a uint8 array (C, H, W) by stated rules.

| input                        | treatment                                                         |
|------------------------------|-------------------------------------------------------------------|
| EXIF orientation 2 to 8      | applied; an EXIF block that cannot be read is ignored             |
| palette, CMYK, YCbCr, LAB    | RGB, or RGBA where the file marks transparent pixels              |
| 1 bit per pixel              | black 0, white 255                                                |
| 16-bit gray (I;16)           | value / 257, rounded; a transparent gray value is ignored         |
| 32-bit integer gray (I)      | taken as 16-bit; if a value lies outside 0..65535: (v - min) /    |
|                              | (max - min) * 255 with the image's own min and max                |
| 32-bit float gray (F)        | v * 255, rounded; if a value lies outside [0, 1]: its own min and |
|                              | max as above; NaN or infinity: bad                                |
| 16 bits per color channel    | the high byte (Pillow's own rule)                                 |
| `channels` 1 / 2 / 3 / 4     | Pillow's L / LA / RGB / RGBA; color to gray by ITU-R 601-2        |
| alpha, target without        | composited on white                                               |
| no alpha, target with        | opaque alpha is added                                             |
| animation, several pages     | the first frame                                                   |
| color profile (ICC)          | ignored                                                           |
| sizes                        | `resize_and_crop`                                                 |
| a side < `min_side`          | bad                                                               |
| unreadable, truncated, empty | bad                                                               |
| > Image.MAX_IMAGE_PIXELS     | bad, before it is decoded; the limit is Pillow's                  |

A bad image raises `BadImage`. A constant image outside its range (rows I, F) becomes 0.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from threading import Condition

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# Pillow goes by content, not by suffix: without a list, an EPS file called x.png runs Ghostscript.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "JPEG2000", "AVIF")


class BadImage(ValueError):
    """An image that cannot be used; the message is the reason, without the image's name."""


class _Room:
    """Let threads decode large images at the same time only while they fit into a pixel budget.

    An image above the budget waits until it is alone. Decoding at a reduced size would make this
    unnecessary, but gives other pixels than the box filter.
    """

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._changed = Condition()

    @contextmanager
    def claim(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that waits for room; the context returns the room that it took."""
        taken = 0

        def take(pixels: int) -> None:
            nonlocal taken
            if pixels < self._all // 64:  # even hundreds of these fit into memory
                return
            wanted = min(pixels, self._all)
            with self._changed:
                self._changed.wait_for(lambda: self._free >= wanted)
                self._free -= wanted
            taken = wanted

        try:
            yield take
        finally:
            if taken:
                with self._changed:
                    self._free += taken
                    self._changed.notify_all()


_ROOM = _Room(2**26)  # pixels; about a gigabyte with all copies


@dataclass(frozen=True)
class PixelSpec:
    """Size and channels that images are converted to, and the shortest side to accept."""

    height: int
    width: int
    channels: int
    min_side: int = 1

    def __post_init__(self) -> None:
        for name in ("height", "width", "min_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.channels not in _MODES:
            raise ValueError(f"images must have 1 to 4 channels, got {self.channels}")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


def decode(content: bytes | NDArray[np.uint8], spec: PixelSpec) -> NDArray[np.uint8]:
    """An encoded file, or pixels (H, W) or (H, W, C), -> uint8 (channels, height, width).

    Raises BadImage for what the table above calls bad.
    """
    if isinstance(content, np.ndarray):
        pixels = content[..., None] if content.ndim == 2 else content
        # Most arrays need no work: skip Pillow where it would be the identity.
        if pixels.shape == (spec.height, spec.width, spec.channels):
            _refuse_small(spec.width, spec.height, spec.min_side)
            return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    with _ROOM.claim() as claim:
        return _fit(open_image(content, claim), spec)


def open_image(
    content: bytes | NDArray[np.uint8], claim: Callable[[int], None] = lambda _: None
) -> Image.Image:
    """A file's first frame, or pixels (H, W) or (H, W, C), upright, as L, LA, RGB or RGBA.

    `claim` is called with the number of pixels before they are decoded. Raises BadImage if the
    content is not an image, is damaged or is too large.
    """
    if isinstance(content, np.ndarray):
        # Pillow has no (H, W, 1).
        squeezed = content[..., 0] if content.ndim == 3 and content.shape[2] == 1 else content
        return Image.fromarray(squeezed)
    if not content:
        raise BadImage("empty file")
    try:
        with Image.open(BytesIO(content), formats=_known_formats()) as image:
            _refuse_bomb(*image.size)
            claim(image.width * image.height)
            image.load()
            # After load(): PNG stores EXIF after the pixels, and TIFF is already upright then.
            _turn_upright(image)
            return _to_eight_bits(image)
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage("not an image that Pillow can read") from error
    except Exception as error:  # decoders raise anything, from SyntaxError to struct.error
        raise BadImage(f"{type(error).__name__}: {error}") from error


def image_to_array(image: Image.Image, spec: PixelSpec) -> NDArray[np.uint8]:
    """A PIL image -> uint8 (channels, height, width). Raises BadImage if a side is too short."""
    return _fit(_to_eight_bits(image), spec)


def deep_range(content: bytes) -> tuple[float, float, bool] | None:
    """The lowest and the highest value of a file of more than 8 bits, and whether they are floats.

    Integers count from 0 to 65535. None for other files, and for those that cannot be read.
    """
    try:
        with Image.open(BytesIO(content), formats=_known_formats()) as image:
            is_deep = image.mode[0] in "IF"
            # Pillow reads color of 16 bits as 8 bits; only the raw mode says what the file has.
            if not is_deep and ";16" not in str(image.tile):
                return None
            _refuse_bomb(*image.size)
            values = np.asarray(image)
            scale = 1.0 if is_deep else 257.0
            return values.min() * scale, values.max() * scale, image.mode == "F"
    except Exception:  # as in `open_image`, which gives the reason
        return None


def _fit(image: Image.Image, spec: PixelSpec) -> NDArray[np.uint8]:
    """L, LA, RGB or RGBA -> uint8 (channels, height, width)."""
    _refuse_small(*image.size, spec.min_side)
    image = resize_and_crop(_to_channels(image, spec.channels), spec)
    pixels = np.asarray(image).reshape(spec.height, spec.width, spec.channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resize_and_crop(image: Image.Image, spec: PixelSpec) -> Image.Image:
    """Resize and crop by the rule of ADM (Dhariwal and Nichol, 2021), for targets of any shape.

    1. While width and height are both at least twice the target's, halve both (rounded down)
       with a box filter.
    2. Scale by max(target width / width, target height / height), bicubically, sides rounded:
       the image now covers the target. Images smaller than the target are enlarged by this step.
    3. Crop the center; an odd remainder leaves one more pixel at the right or the bottom.

    Raises BadImage if step 2 needs more pixels than Pillow allows (a side ratio in the thousands).
    """
    width, height = spec.width, spec.height
    while image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width / image.width, height / image.height)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    _refuse_bomb(*size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return image.crop((left, top, left + width, top + height))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Any mode -> L, LA, RGB or RGBA."""
    if image.mode == "F":
        return _grey(np.asarray(image, dtype=np.float64), limit=1.0)
    if image.mode.startswith("I"):
        return _grey(np.asarray(image).astype(np.float64), limit=65535.0)
    grey = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        return image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB")


def _grey(values: NDArray[np.float64], limit: float) -> Image.Image:
    """Values in [0, limit] -> L; others are stretched from their own min and max."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise BadImage("pixels that are not finite numbers")
    if low < 0.0 or high > limit:
        values, limit = values - low, (high - low) or 1.0
    return Image.fromarray(np.rint(values / limit * 255.0).astype(np.uint8))


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    if channels in (1, 3) and image.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])


def _turn_upright(image: Image.Image) -> None:
    """Apply the orientation that EXIF states, if it can be read, to a loaded image."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # damaged EXIF is no reason to lose a readable image
        return


def _refuse_small(width: int, height: int, min_side: int) -> None:
    if min(width, height) < min_side:
        raise BadImage(f"{width} x {height} pixels, shorter than {min_side}")


def _refuse_bomb(width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise BadImage(f"{width} x {height} pixels, above Pillow's limit of {limit}")


@cache
def _known_formats() -> list[str]:
    """The accepted formats that this Pillow was built with."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]

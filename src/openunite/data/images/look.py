"""A quick summary of a source of images, and notes to read before training on it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from openunite.cache import cache_folder
from openunite.data.images.pixels import BadImage, deep_range, open_image
from openunite.data.images.readers import read_source
from openunite.data.images.sources import Ints, Items, Source

_LOOK = 200  # images that are opened
_BAND = 2**22  # pixels that are compared at once


@dataclass(frozen=True)
class ImageSummary:
    """Number, size (pixels), channels and classes (0: unconditional) of a source's images.

    `one_size` is True if all images that were looked at have the same size.
    """

    num_images: int
    height: int
    width: int
    channels: int
    num_classes: int
    one_size: bool = field(default=True, compare=False)


def inspect_images(source: Any, *, cache_dir: str | Path | None = None) -> ImageSummary:
    """Summarize a source by the median size of up to 200 images and the channels that they need.

    The images are evenly spaced. Channels are 4 if more than half of them have a pixel that is not
    opaque, else 1 if all are gray (in content, not only in mode), else 3. Images that cannot be
    read are passed over; ValueError if that is all of them.
    """
    found = read_source(source, cache_folder(cache_dir))
    looked, reasons = list[tuple[int, int, bool, bool]](), list[str]()
    for i in _spread(len(found.items)):
        try:
            image = open_image(found.items.read(i))
            looked.append((image.height, image.width, *_colors(image)))
        except (OSError, BadImage, MemoryError) as error:
            reasons.append(f"{found.items.name(i)}: {error}")
    if not looked:
        first = f"; the first is {reasons[0]}" if reasons else ""
        raise ValueError(
            f"{source} has no readable image among the {len(reasons)} looked at{first}"
        )
    heights, widths, grey, clear = zip(*looked, strict=True)
    height, width = int(np.median(heights)), int(np.median(widths))
    channels = 4 if 2 * sum(clear) > len(clear) else 1 if all(grey) else 3
    return ImageSummary(
        *(len(found.items), height, width, channels, len(found.class_names)),
        len(set(zip(heights, widths, strict=True))) == 1,
    )


def depth_notes(source: Source) -> tuple[str, ...]:
    """Notes on images of more than 8 bits, after a look at up to 200 images."""
    ranges = [] if source.digests is not None else list(_deep_ranges(source.items))
    highest = max((high for _, high, is_float in ranges if not is_float), default=0.0)
    stretched = sum(low < 0 or high > (1 if is_float else 65535) for low, high, is_float in ranges)
    notes = []
    if 0 < highest < 2**14:
        white = 2 ** int(highest).bit_length() - 1
        notes.append(
            f"the images of 16 bits looked at reach {highest:.0f} of 65535 and become dark; "
            f"multiply their values by {65535 // white} before training"
        )
    if stretched:
        notes.append(
            f"{stretched} images have values outside the range of their kind and are stretched, "
            "each by its own lowest and highest value; scale all of them alike before training"
        )
    return tuple(notes)


def overlap_notes(
    source: Source, rows: Ints, digests: Sequence[str], held_out: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Notes on the split of the usable `rows`: copies in both parts, classes not trained on."""
    notes = []
    trained = {digest for digest, out in zip(digests, held_out, strict=True) if not out}
    tested = [digest for digest, out in zip(digests, held_out, strict=True) if out]
    if same := sum(digest in trained for digest in tested):
        notes.append(f"{same} of {len(tested)} held-out images are also training images")
    per_class = Counter(source.labels[rows[~held_out]].tolist())
    names = source.class_names
    if empty := [name for i, name in enumerate(names) if not per_class[i]]:
        notes.append(
            f"{len(empty)} of {len(names)} classes have no training image ({', '.join(empty[:3])}"
            f"{', ...' if len(empty) > 3 else ''})"
        )
    if 1 < len(rows) < 2 * len(names):
        notes.append(f"there are {len(names)} classes for {len(rows)} images: are they classes?")
    return tuple(notes)


def _spread(count: int) -> list[int]:
    """Up to 200 positions, evenly spaced."""
    places = np.linspace(0, count - 1, min(count, _LOOK)).round().astype(int)
    return sorted(set(places.tolist()))


def _colors(image: Image.Image) -> tuple[bool, bool]:
    """Whether an image is gray, and whether some of it is not opaque; in bands, to save memory."""
    is_grey, is_clear = True, False
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels = np.asarray(band.convert("RGBA"))
        opaque = pixels[..., 3:] == 255
        # The color below transparent pixels is often noise: it decides nothing.
        is_grey = is_grey and bool((~opaque | (pixels[..., :3] == pixels[..., :1])).all())
        is_clear = is_clear or not opaque.all()
    return is_grey, is_clear


def _deep_ranges(items: Items) -> Iterator[tuple[float, float, bool]]:
    for i in _spread(len(items)):
        try:
            content = items.read(i)
            found = None if isinstance(content, np.ndarray) else deep_range(content)
        except (OSError, MemoryError):
            continue
        if found is not None:
            yield found

"""Which files are images: those that Pillow knows, and those of readers of other packages.

An image of such a reader is passed on as a PNG, or as a TIFF if a PNG would lose something, so that
the rules of `pixels.py` hold for all images.
"""

from io import BytesIO
from itertools import islice
from pathlib import Path

from PIL import Image

from openunite.data.holdout import Skipped
from openunite.data.images.sources import SUFFIXES
from openunite.data.readers import reader_of, readers_of

_EXACT = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # modes that a PNG holds without loss


def suffixes() -> list[str]:
    """The suffixes of images, in lower case."""
    return [*sorted(SUFFIXES), *(name for name in readers_of("images") if name not in SUFFIXES)]


def is_image(path: str | Path) -> bool:
    """Whether a file of this name is taken for an image."""
    return Path(path).suffix.lower() in SUFFIXES or reader_of(path, "images") is not None


def converted(path: Path) -> bytes | None:
    """The image in a file of another package's format as a PNG or TIFF, None for other files.

    OSError if the reader finds no image there, or several.
    """
    reader = reader_of(path, "images")
    if reader is None or path.suffix.lower() in SUFFIXES:
        return None
    if not path.is_file():
        raise OSError("not an ordinary file")
    try:
        found = list(islice(reader.read(path), 2))
    except ValueError as error:
        raise OSError(str(error)) from error
    if len(found) != 1:
        raise OSError(f"expected one image in the file, got {'several' if found else 'none'}")
    if isinstance(found[0], Skipped):
        raise OSError(found[0].reason)
    return encoded(found[0])


def encoded(image: Image.Image) -> bytes:
    """The image as a file without loss: a PNG, or a TIFF for modes that a PNG does not hold."""
    file = BytesIO()
    image.save(file, "PNG" if image.mode in _EXACT else "TIFF")
    return file.getvalue()

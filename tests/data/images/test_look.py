"""What is said of a source beside its images, and the room that large images wait for."""

import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from openunite.data.images import pixels
from openunite.data.images.dataset import open_images
from openunite.data.images.pixels import BadImage, PixelSpec, decode

# Room for large images


def test_large_images_wait_for_room():
    room = pixels._Room(640)
    most, now, lock = [0], [0], threading.Lock()

    def work(size: int) -> None:
        with room.claim() as claim:
            claim(size)
            with lock:
                now[0] += size
                most[0] = max(most[0], now[0])
            time.sleep(0.01)
            with lock:
                now[0] -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [300] * 8))
    assert most[0] == 600
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [9000] * 3))  # larger than all room: one after the other
    assert most[0] == 9000
    assert room._free == 640


def test_room_is_given_back_after_a_damaged_image():
    room = pixels._ROOM
    content = io.BytesIO()
    Image.new("RGB", (1500, 1500)).save(content, "PNG")
    before = room._free
    with pytest.raises(BadImage):
        decode(content.getvalue()[:-60], PixelSpec(4, 4, 3))
    assert room._free == before


# More than eight bits


@pytest.mark.parametrize(
    ("highest", "factor"), [(1023, 64), (4000, 16), (255, 257), (16383, 4), (20000, None)]
)
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_dark_images_of_sixteen_bits_are_told(tmp_path, highest, factor, kind):
    for i in range(3):
        values = np.full((8, 8), highest - i, np.uint16)
        Image.fromarray(values).save(tmp_path / f"{i}.{kind}")
    notes = open_images(tmp_path, height=8, width=8, channels=1, progress=False).notes
    expected = (
        ()
        if factor is None
        else (
            f"the images of 16 bits looked at reach {highest} of 65535 and become dark; "
            f"multiply their values by {factor} before training",
        )
    )
    assert notes == expected


def test_dark_color_of_sixteen_bits_is_told(tmp_path):
    """Pillow writes no such PNG: IHDR, one filtered row after the other, IEND."""
    for i in range(3):
        row = b"\0" + (np.full((8, 3), 4000 + i, ">u2")).tobytes()
        chunks = (
            (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(row * 8)),
            (b"IEND", b""),
        )
        body = b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    (note,) = open_images(
        tmp_path, height=8, width=8, channels=3, progress=False, holdout_share=0.4
    ).notes[:1]
    assert "multiply their values by 16" in note


def test_floats_stretched_one_by_one_are_told(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((8, 8), i, np.float32) + np.eye(8, dtype=np.float32)).save(
            tmp_path / f"{i}.tif"
        )
    (note,) = open_images(tmp_path, height=8, width=8, channels=1, progress=False).notes
    assert note.startswith("2 images have values outside the range of their kind")

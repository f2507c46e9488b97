"""Every rule of the table in pixels.py, on images made here."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from openunite.data.images import pixels
from openunite.data.images.pixels import BadImage, PixelSpec, decode, open_image

GREY = PixelSpec(2, 3, 1)
COLOR = PixelSpec(2, 3, 3)
ORIENTED = [
    (1, lambda a: a),
    (2, lambda a: a[:, ::-1]),
    (3, lambda a: a[::-1, ::-1]),
    (4, lambda a: a[::-1]),
    (5, lambda a: a.T),
    (6, lambda a: np.rot90(a, -1)),
    (7, lambda a: a[::-1, ::-1].T),
    (8, lambda a: np.rot90(a, 1)),
]


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(values: object, dtype: str = "u1") -> Image.Image:
    return Image.fromarray(np.array(values, dtype=dtype))


@pytest.mark.parametrize(("orientation", "expected"), ORIENTED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation(orientation, expected, kind):
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = expected(stored)
    spec = PixelSpec(*upright.shape, 1)
    got = decode(encode(Image.fromarray(stored), kind, exif=exif), spec)
    assert np.array_equal(got[0], upright)


def test_exif_orientation_of_jpeg_and_of_16_bit():
    stored = np.zeros((16, 32), dtype=np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    got = decode(encode(Image.fromarray(stored), "JPEG", exif=exif), PixelSpec(32, 16, 1))
    assert got[0, :12].min() > 240
    assert got[0, 20:].max() < 15
    wide = encode(Image.fromarray(stored.astype(np.uint16) * 257), exif=exif)
    assert np.array_equal(decode(wide, PixelSpec(32, 16, 1))[0], np.rot90(stored, -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_is_ignored():
    data = encode(grey([[1, 2, 3], [4, 5, 6]]), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode(data, GREY)[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    data = encode(grey([[1, 2, 3], [4, 5, 6]]), exif=b"Exif\0\0nonsense")
    assert decode(data, GREY)[0].tolist() == [[1, 2, 3], [4, 5, 6]]


def palette() -> Image.Image:
    image = Image.new("P", (3, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2, 2, 1, 0])
    return image


def test_palette():
    got = decode(encode(palette()), COLOR)
    assert got[:, 0].T.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 255])])
def test_palette_with_transparency(transparency):
    data = encode(palette(), transparency=transparency)
    assert decode(data, COLOR)[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    assert decode(data, PixelSpec(2, 3, 4))[3].tolist() == [[255, 0, 255], [255, 0, 255]]


def test_transparent_grey_and_color_values():
    data = encode(grey([[10, 20, 30], [20, 20, 40]]), transparency=20)
    assert decode(data, GREY)[0].tolist() == [[10, 255, 30], [255, 255, 40]]
    assert decode(data, PixelSpec(2, 3, 2))[1].tolist() == [[255, 0, 255], [0, 0, 255]]
    data = encode(Image.new("RGB", (3, 2), (9, 8, 7)), transparency=(9, 8, 7))
    assert decode(data, COLOR).min() == 255


def test_alpha_is_composited_on_white_or_kept():
    image = Image.new("RGBA", (3, 2), (200, 100, 0, 51))  # alpha 0.2
    data = encode(image)
    assert decode(data, COLOR)[:, 0, 0].tolist() == [244, 224, 204]
    assert decode(data, GREY)[0, 0, 0] == round(0.299 * 244 + 0.587 * 224 + 0.114 * 204)
    assert decode(data, PixelSpec(2, 3, 4))[:, 0, 0].tolist() == [200, 100, 0, 51]
    data = encode(Image.new("LA", (3, 2), (100, 51)))
    assert decode(data, GREY)[0, 0, 0] == 224
    assert decode(data, COLOR)[:, 0, 0].tolist() == [224] * 3
    assert decode(data, PixelSpec(2, 3, 2))[:, 0, 0].tolist() == [100, 51]
    assert decode(data, PixelSpec(2, 3, 4))[:, 0, 0].tolist() == [100, 100, 100, 51]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_opaque_images_in_every_channel_count(mode, channels):
    image = Image.new("L", (3, 2), 255).convert(mode)
    got = decode(encode(image), PixelSpec(2, 3, channels))
    assert got.shape == (channels, 2, 3)
    assert got.min() == 255


def test_grey_and_color_convert_into_each_other():
    assert decode(encode(grey([[7, 8, 9]] * 2)), COLOR)[:, 0].tolist() == [[7, 8, 9]] * 3
    red = encode(Image.new("RGB", (3, 2), (255, 0, 0)))
    assert decode(red, GREY)[0, 0, 0] == 76


def test_16_bit_grey():
    values = [[0, 128, 129], [257, 65535, 32768]]
    assert decode(encode(grey(values, "u2")), GREY)[0].tolist() == [[0, 0, 1], [1, 255, 128]]
    assert decode(encode(grey([[0, 0, 65000]] * 2, "u2")), GREY)[0, 0].tolist() == [0, 0, 253]
    big = encode(grey(values, "u2"), "TIFF")
    assert decode(big, GREY)[0].tolist() == [[0, 0, 1], [1, 255, 128]]
    pgm = b"P5 3 2 65535\n" + np.array(values, dtype=">u2").tobytes()
    assert decode(pgm, GREY)[0].tolist() == [[0, 0, 1], [1, 255, 128]]


def test_32_bit_integers():
    data = encode(grey([[0, 257, 65535]] * 2, "i4"), "TIFF")
    assert decode(data, GREY)[0, 0].tolist() == [0, 1, 255]
    data = encode(grey([[-100, 0, 100]] * 2, "i4"), "TIFF")
    assert decode(data, GREY)[0, 0].tolist() == [0, 128, 255]


def test_floats():
    data = encode(grey([[0.0, 0.5, 1.0]] * 2, "f4"), "TIFF")
    assert decode(data, GREY)[0, 0].tolist() == [0, 128, 255]
    data = encode(grey([[0.0, 0.1, 0.2]] * 2, "f4"), "TIFF")  # within [0, 1]: not stretched
    assert decode(data, GREY)[0, 0].tolist() == [0, 26, 51]
    data = encode(grey([[-1.0, 0.0, 3.0]] * 2, "f4"), "TIFF")
    assert decode(data, GREY)[0, 0].tolist() == [0, 64, 255]
    data = encode(grey([[7.0] * 3] * 2, "f4"), "TIFF")
    assert decode(data, GREY)[0, 0].tolist() == [0, 0, 0]
    for value in (np.nan, np.inf):
        with pytest.raises(BadImage, match="not finite"):
            decode(encode(grey([[0.0, value, 1.0]] * 2, "f4"), "TIFF"), GREY)


def test_cmyk_jpeg():
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    got = decode(encode(image, "JPEG", quality=95), PixelSpec(16, 16, 3))
    assert np.abs(got[:, 8, 8].astype(int) - [255, 0, 0]).max() < 6


def test_animated_gif_gives_its_first_frame():
    frames = [Image.new("RGB", (3, 2), color) for color in ("red", "blue", "lime")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert decode(data, COLOR)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [9_999, 1_000])  # Pillow itself only warns up to twice its limit
def test_bombs_are_refused_before_decoding(monkeypatch, limit):
    data = encode(Image.new("L", (100, 100)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert decode(data, PixelSpec(4, 4, 1)).shape == (1, 4, 4)
    loaded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: loaded.append(self))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImage, match="limit"):
        decode(data, PixelSpec(4, 4, 1))
    assert not loaded


def test_a_side_ratio_that_would_need_huge_memory_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(BadImage, match="above Pillow's limit"):
        decode(encode(Image.new("L", (1000, 1))), PixelSpec(16, 16, 1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"these are words", "not an image"),
        (encode(Image.effect_noise((64, 64), 90))[:-600], "truncated"),
        (encode(Image.effect_noise((64, 64), 90), "JPEG")[:700], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + b"\0" * 17, "."),
    ],
)
def test_damaged_files_are_bad(data, reason):
    with pytest.raises(BadImage, match=reason):
        decode(data, GREY)


def test_min_side():
    data = encode(Image.new("L", (9, 4)))
    assert decode(data, PixelSpec(2, 3, 1, min_side=4)).shape == (1, 2, 3)
    with pytest.raises(BadImage, match="9 x 4 pixels, shorter than 5"):
        decode(data, PixelSpec(2, 3, 1, min_side=5))
    with pytest.raises(BadImage, match="shorter"):
        decode(np.zeros((2, 3), dtype=np.uint8), PixelSpec(2, 3, 1, min_side=3))


def test_halving_is_a_mean_and_the_crop_is_central():
    # 12 x 5 -> target 3 x 2 (width x height): one halving gives 6 x 2, then the center 3 of 6.
    stored = np.zeros((5, 12), dtype=np.uint8)
    stored[:4] = np.kron(np.arange(12).reshape(2, 6) * 20, np.ones((2, 2)))
    got = decode(encode(Image.fromarray(stored[:4])), GREY)
    assert got[0].tolist() == [[20, 40, 60], [140, 160, 180]]
    half = Image.fromarray(stored).resize((6, 2), Image.Resampling.BOX)
    assert np.array_equal(
        decode(encode(Image.fromarray(stored)), GREY)[0], np.asarray(half)[:, 1:4]
    )


def test_no_halving_unless_both_sides_allow_it():
    noise = Image.effect_noise((13, 3), 90)  # 13 >= 2 * 3 but 3 < 2 * 2
    expected = noise.resize((9, 2), Image.Resampling.BICUBIC).crop((3, 0, 6, 2))
    assert np.array_equal(decode(encode(noise), GREY)[0], np.asarray(expected))


def test_the_rule_equals_adm_on_squares():
    noise, size = Image.effect_noise((150, 101), 90), 16
    image = noise
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC
    )
    array = np.asarray(image)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    expected = array[top : top + size, left : left + size]
    assert np.array_equal(decode(encode(noise), PixelSpec(size, size, 1))[0], expected)


def test_small_images_are_enlarged_bicubically_to_cover():
    noise = Image.effect_noise((2, 2), 90)
    expected = noise.resize((3, 3), Image.Resampling.BICUBIC).crop((0, 0, 3, 2))
    assert np.array_equal(decode(encode(noise), GREY)[0], np.asarray(expected))


def test_the_right_size_is_left_alone():
    noise = Image.effect_noise((3, 2), 90)
    assert np.array_equal(decode(encode(noise), GREY)[0], np.asarray(noise))


def test_transparent_color_does_not_bleed_when_resizing():
    array = np.zeros((4, 4, 4), dtype=np.uint8)
    array[:, :2] = (255, 255, 255, 255)  # white beside invisible black
    got = decode(array, PixelSpec(3, 3, 4))
    assert got[:3][:, got[3] > 64].min() > 240


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 2), (2, 3, 3), (2, 3, 4)])
def test_arrays_take_the_same_way_as_files(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for channels in (1, 2, 3, 4):
        spec = PixelSpec(2, 3, channels)
        file = encode(Image.fromarray(array.squeeze()))
        assert np.array_equal(decode(array, spec), decode(file, spec))
    assert open_image(array).size == (3, 2)


def test_only_listed_formats_are_opened():
    assert {"PNG", "JPEG", "GIF", "TIFF"} <= set(pixels._known_formats())
    assert "EPS" not in pixels._known_formats()


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 5), (1, 1, 1, 0)])
def test_spec_refuses(wrong):
    with pytest.raises(ValueError, match="got"):
        PixelSpec(*wrong)


sides = st.integers(1, 80)


@settings(max_examples=150, deadline=None)
@given(sides, sides, sides, sides, st.integers(1, 4), st.sampled_from(["L", "LA", "RGB", "RGBA"]))
def test_any_size_becomes_the_target(h, w, height, width, channels, mode):
    image = Image.new(mode, (w, h), (90, 255)[: len(mode)] if mode == "LA" else "gray")
    got = decode(np.asarray(image), PixelSpec(height, width, channels))
    assert got.shape == (channels, height, width)
    assert got.dtype == np.uint8
    assert got.flags["C_CONTIGUOUS"]
    color = got[: 1 if channels < 3 else 3].astype(int)
    assert color.max() - color.min() <= 1  # a plain image stays plain

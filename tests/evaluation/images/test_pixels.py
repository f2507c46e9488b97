"""Seams and partly clear pixels of images whose steps are known."""

import pytest
import torch
from torch import Tensor

from openunite.evaluation.images.pixels import alpha_terms, over_real, pixel_ratios, seam_terms


def ramp(side: int, slope: float) -> Tensor:
    """One grey image that rises by `slope` from column to column and from row to row."""
    line = slope * torch.arange(side)
    return (line[:, None] + line).expand(1, 1, side, side)


def flat_patches(side: int, patch: int) -> Tensor:
    """A checkerboard of flat patches of 0 and 1."""
    place = torch.arange(side) // patch
    return ((place[:, None] + place) % 2).float().expand(1, 1, side, side)


def test_a_picture_of_flat_patches_is_all_seams() -> None:
    assert seam_terms(flat_patches(8, 4), 4).tolist() == [[1.0, 0.0]]
    assert seam_terms(flat_patches(8, 4), 3)[0, 1] > 0.0  # not its own borders


def test_a_ramp_has_no_seams() -> None:
    steps = seam_terms(ramp(12, 0.01), 4)
    assert steps[0].tolist() == pytest.approx([0.01, 0.01])


def test_steps_are_counted_once_each_in_images_that_are_not_square() -> None:
    """8 rows and 4 columns, patch 4: four steps over the only border, 24 + 24 inside."""
    image = torch.zeros(1, 1, 8, 4)
    image[:, :, 4:] = 0.5
    image[:, :, 7, 0] = 1.0  # steps of 0.5 to the pixel above and to the right
    terms = seam_terms(image, 4)
    assert terms[0].tolist() == pytest.approx([0.5, 1.0 / 48])


def test_seams_are_relative_to_real_images() -> None:
    """Half of a ramp's step inside patches, all of it across borders: twice the seams of a ramp."""
    real, found = ramp(12, 0.02), ramp(12, 0.01)
    step = 0.01 * (torch.arange(12) // 4)
    found = found + step[:, None] + step
    ratio = over_real(pixel_ratios([found], 4), pixel_ratios([real], 4))
    assert ratio["seams"].value == pytest.approx(2.0, rel=1e-5)
    same = over_real(pixel_ratios([real, real], 4), pixel_ratios([real], 4))
    assert same["seams"].value == pytest.approx(1.0)


def test_what_lies_below_clear_pixels_is_no_seam() -> None:
    clear = torch.cat([flat_patches(8, 4), torch.zeros(1, 1, 8, 8)], dim=1)
    assert seam_terms(clear, 4).tolist() == [[0.0, 0.0]]


def test_pixels_between_clear_and_opaque_are_counted() -> None:
    images = torch.zeros(2, 4, 2, 2)
    images[0, 3] = torch.tensor([[0.0, 0.01], [0.5, 0.97]])
    images[1, 3] = torch.tensor([[1.0, 0.99], [0.03, 1.0]])
    assert alpha_terms(images, 1).tolist() == [[0.5, 1.0], [0.25, 1.0]]
    ratio = over_real(pixel_ratios([images[:1]], 1), pixel_ratios([images[1:]], 1))
    assert ratio["partly_clear"].value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("channels", "patch", "names"),
    [(3, 4, {"seams"}), (4, 4, {"seams", "partly_clear"}), (1, 1, set()), (3, 8, set())],
)
def test_only_what_means_something_is_computed(channels: int, patch: int, names: set[str]) -> None:
    images = torch.rand(3, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    assert pixel_ratios([images], patch).keys() == names


def test_bytes_are_images_too_and_flat_real_images_give_no_number() -> None:
    noise = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    of_bytes, of_floats = pixel_ratios([noise], 4), pixel_ratios([noise / 255.0], 4)
    assert of_bytes["seams"] == pytest.approx(of_floats["seams"])
    assert over_real(of_bytes, pixel_ratios([torch.zeros(1, 1, 8, 8)], 4)) == {}

"""PSNR, L1 and the box blur against numbers worked out by hand."""

import math

import pytest
import torch

from openunite.evaluation.image_metrics import box_blur3, l1, psnr


def test_psnr_by_hand_and_per_image() -> None:
    target = torch.full((3, 1, 2, 2), 0.5)
    output = target.clone()
    output[0] += 0.1  # mse 0.01: 20 dB
    output[1, 0, 0, 0] = 1.0  # mse 0.25 / 4: 12.04 dB
    expected = torch.tensor([20.0, -10.0 * math.log10(0.0625), 100.0])
    torch.testing.assert_close(psnr(output, target), expected, rtol=1e-4, atol=1e-4)


def test_outputs_are_clamped_before_they_are_judged() -> None:
    target = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    output = torch.tensor([-3.0, 1.5]).view(1, 1, 1, 2)
    assert psnr(output, target).item() == pytest.approx(100.0)
    assert l1(output, target).item() == 0.0


def test_l1_by_hand() -> None:
    target = torch.zeros(2, 3, 1, 2)
    output = target.clone()
    output[0, 0] = 0.6  # two of six values
    torch.testing.assert_close(l1(output, target), torch.tensor([0.2, 0.0]))


def test_blur_by_hand() -> None:
    """A single bright pixel spreads; border rows and columns count twice or four times."""
    images = torch.zeros(1, 2, 4, 5)
    images[0, 0, 1, 2] = 9.0
    images[0, 1, 0, 0] = 9.0
    expected = torch.zeros(2, 4, 5)
    expected[0, 0:3, 1:4] = 1.0
    expected[1, 0:2, 0:2] = torch.tensor([[4.0, 2.0], [2.0, 1.0]])
    torch.testing.assert_close(box_blur3(images)[0], expected)


def test_blur_keeps_constants_and_single_pixels() -> None:
    torch.testing.assert_close(
        box_blur3(torch.full((2, 3, 1, 1), 0.3)), torch.full((2, 3, 1, 1), 0.3)
    )


@pytest.mark.parametrize("metric", [psnr, l1])
def test_pairs_must_match(metric) -> None:
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(4, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="one shape"):
        metric(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="divide by 255"):
        metric(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.uint8))

"""PSNR, L1 and the box blur against numbers worked out by hand."""

import math

import pytest
import torch

from openunite.evaluation.images.metrics import box_blur3, l1, psnr, shrink, ssim


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


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_equal_scikit_image(channels: int) -> None:
    skimage = pytest.importorskip("skimage.metrics")
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, channels, 24, 31, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    output = (target + 0.15 * noise).clamp(0.0, 1.0)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for i, (a, b) in enumerate(zip(output.numpy(), target.numpy(), strict=True)):
        expected = skimage.peak_signal_noise_ratio(b, a, data_range=1.0)
        assert psnr(output, target)[i].item() == pytest.approx(expected)
        expected = skimage.structural_similarity(
            a, b, data_range=1.0, channel_axis=0, win_size=11, **settings
        )
        assert ssim(output, target)[i].item() == pytest.approx(expected, abs=1e-10)


def test_ssim_of_one_window_by_hand() -> None:
    """An 11 x 11 image has a single window: weighted moments, written out."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(2, 1, 1, 11, 11, generator=generator, dtype=torch.float64)
    place = torch.arange(-5.0, 6.0, dtype=torch.float64)
    w = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    w = w / w.sum()
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, c = (
        (w * (x - mx) ** 2).sum(),
        (w * (y - my) ** 2).sum(),
        (w * (x - mx) * (y - my)).sum(),
    )
    expected = (2 * mx * my + 1e-4) * (2 * c + 9e-4)
    expected = expected / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    torch.testing.assert_close(ssim(x, y), expected.view(1))
    torch.testing.assert_close(ssim(x, x), torch.ones(1, dtype=torch.float64))


def test_images_are_shrunk_by_whole_squares_of_pixels() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    assert shrink(image, 4)[0, 0, 0].tolist() == [4.5, 6.5, 8.5, 10.5]
    assert shrink(torch.zeros(1, 3, 40, 20)).shape == (1, 3, 20, 10)
    assert torch.equal(shrink(image), image)


def test_ssim_needs_a_whole_window() -> None:
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))

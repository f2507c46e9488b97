"""Pixel metrics of images (B, C, H, W) in [0, 1] against their targets, one number per image."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_MIN_SQUARED_ERROR = 1e-10  # equal images get 100 dB; JSON has no infinity
SSIM_SIDE, _SSIM_STD = 11, 1.5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2


def psnr(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in dB per image, data range 1; the output is clamped to [0, 1]."""
    _check_pair(output, target)
    error = (output.clamp(0.0, 1.0) - target).square().flatten(1).mean(1)
    return -10.0 * error.clamp_min(_MIN_SQUARED_ERROR).log10()


def l1(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean absolute error per image; the output is clamped to [0, 1]."""
    _check_pair(output, target)
    return (output.clamp(0.0, 1.0) - target).abs().flatten(1).mean(1)


def ssim(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Structural similarity per image (Wang et al., 2004), data range 1, output clamped to [0, 1].

    Gaussian windows of 11 x 11 pixels, std 1.5, averaged over channels and all windows inside the
    image. Computed in float64, because the variances are small differences.
    """
    _check_pair(output, target)
    if min(output.shape[2:]) < SSIM_SIDE:
        raise ValueError(
            f"SSIM needs sides of at least {SSIM_SIDE} pixels, got {tuple(output.shape[2:])}; "
            "use PSNR for smaller images"
        )
    x, y = output.clamp(0.0, 1.0).cpu().double(), target.cpu().double()
    mean_x, mean_y = _window(x), _window(y)
    var_x = _window(x * x) - mean_x * mean_x
    var_y = _window(y * y) - mean_y * mean_y
    covariance = _window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (var_x + var_y + _SSIM_C2)
    return (luminance * structure).flatten(1).mean(1)


def _window(images: Tensor) -> Tensor:
    """Gaussian means over the windows inside the image."""
    place = torch.arange(SSIM_SIDE, dtype=images.dtype) - SSIM_SIDE // 2
    weights = torch.exp(-0.5 * (place / _SSIM_STD) ** 2)
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    rows = F.conv2d(images, weights, groups=images.shape[1])
    return F.conv2d(rows, weights.transpose(2, 3), groups=images.shape[1])


def box_blur3(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Mean over each 3x3 neighborhood; border pixels are repeated outwards."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)


def shrink(images: Float[Tensor, "b c h w"], side: int = 32) -> Float[Tensor, "b c s t"]:
    """Means over squares of pixels, the smallest that bring both sides to at most `side`."""
    return F.avg_pool2d(images, math.ceil(max(images.shape[2:]) / side))


def _check_pair(output: Tensor, target: Tensor) -> None:
    # Broadcasting would silently average over wrong pairs.
    if output.shape != target.shape or output.ndim != 4:
        raise ValueError(
            f"expected output and target of one shape (B, C, H, W), got {tuple(output.shape)} and "
            f"{tuple(target.shape)}; add the batch axis or crop to one size"
        )
    if not (output.is_floating_point() and target.is_floating_point()):
        raise ValueError(
            f"expected floats in [0, 1], got {output.dtype} and {target.dtype}; divide by 255"
        )

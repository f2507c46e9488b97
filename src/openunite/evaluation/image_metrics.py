"""Metrics of images (B, C, H, W) in [0, 1] against their targets; one number per image."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_MIN_SQUARED_ERROR = 1e-10  # equal images score 100 dB rather than infinity, which JSON lacks


def psnr(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in dB per image, data range 1; the output is clamped to [0, 1]."""
    _check_pair(output, target)
    error = (output.clamp(0.0, 1.0) - target).square().flatten(1).mean(1)
    return -10.0 * error.clamp_min(_MIN_SQUARED_ERROR).log10()


def l1(output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean absolute error per image; the output is clamped to [0, 1]."""
    _check_pair(output, target)
    return (output.clamp(0.0, 1.0) - target).abs().flatten(1).mean(1)


def box_blur3(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Mean over each 3x3 neighborhood; border pixels are repeated outwards."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)


def _check_pair(output: Tensor, target: Tensor) -> None:
    # Broadcasting would average over wrong pairs without a word.
    if output.shape != target.shape or output.ndim != 4:
        raise ValueError(
            f"expected output and target of one shape (B, C, H, W), got {tuple(output.shape)} and "
            f"{tuple(target.shape)}; add the batch axis or crop to one size"
        )
    if not (output.is_floating_point() and target.is_floating_point()):
        raise ValueError(
            f"expected floats in [0, 1], got {output.dtype} and {target.dtype}; divide by 255"
        )

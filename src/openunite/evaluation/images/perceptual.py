"""Perceptual distances of images, as plain callables without parameters to train or save.

`Lpips` is the LPIPS of Zhang et al. (2018), "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", version 0.1 with VGG16: the paper's second reconstruction loss. Its linear heads
are packaged; the VGG16 is torchvision's file. `gradient_distance` needs no weights at all; it is
not LPIPS and its numbers cannot be compared with it.
"""

from collections.abc import Callable, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from openunite.data.images.color import to_rgb
from openunite.files import sha256_of
from openunite.pretrained import Shapes, WeightFile, locate, read_weights

Distance = Callable[[Tensor, Tensor], Tensor]  # output, target (B, C, H, W) -> (B,)

VGG16 = WeightFile(
    "vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth", "397923af"
)
HEADS_FILE = "lpips_vgg16_heads.safetensors"
MIN_SIDE = 16  # four pools halve it to one pixel
# Stages between pools: indices of the convolutions in torchvision's `features`, and channels.
_STAGES = (
    ((0, 2), 64),
    ((5, 7), 128),
    ((10, 12, 14), 256),
    ((17, 19, 21), 512),
    ((24, 26, 28), 512),
)
# LPIPS normalizes images in [-1, 1] with these.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_TINY = 1e-10


class Lpips:
    """LPIPS (B,) of outputs against targets (B, C, H, W) in [0, 1]; 0 for equal images.

    The target branch has no gradient and its range is asserted. An output may leave the range, as
    a decoder's does in training. There is no dropout and no train mode; the weights follow the
    output to its device.
    """

    def __init__(self, tensors: Mapping[str, Tensor], checksum: str) -> None:
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self._tensors |= {"shift": torch.tensor(_SHIFT), "scale": torch.tensor(_SCALE)}
        self.checksum = checksum

    @classmethod
    def load(cls, vgg16: str | Path | None = None) -> "Lpips":
        """Load torchvision's file (a path, a folder, a cache or the web) and the packaged heads.

        FileNotFoundError says how to get a missing file.
        """
        try:
            path = locate(VGG16, vgg16)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"LPIPS needs VGG16: {error}; without it, set perceptual to 'gradients' or 'none'"
            ) from error
        tensors = read_weights(path, vgg16_shapes(), prefix="features.") | _heads()
        return cls(tensors, sha256_of(path))

    @classmethod
    def random(cls, seed: int) -> "Lpips":
        """Random weights of the true shapes, for tests and timing; the distance has no meaning."""
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for name, shape in vgg16_shapes().items():
            fan_in = torch.Size(shape[1:]).numel()
            drawn = torch.randn(shape, generator=generator)
            tensors[name] = drawn * (2.0 / fan_in) ** 0.5 if len(shape) == 4 else 0.1 * drawn
        return cls(tensors | _heads(), f"random-{seed}")

    def __call__(
        self, output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        _check(output, target)
        self._follow(output)
        return self.between(output, target)

    def compile(self) -> None:
        """Compile the operations around the convolutions, for images of one shape."""
        self.between = torch.compile(  # type: ignore[method-assign]
            self.between, fullgraph=True, dynamic=False
        )

    def between(
        self, output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """The distance without checks, for images on the device of the weights."""
        with torch.no_grad():
            wanted = self._features(target)
        total = output.new_zeros(len(output), dtype=torch.float32)
        for i, (found, aim) in enumerate(zip(self._features(output), wanted, strict=True)):
            error = (found - aim).square()
            total = total + (error * self._tensors[f"lin{i}"].view(1, -1, 1, 1)).sum(1).mean((1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        """Activations at the end of each stage, each pixel scaled to unit length, float32."""
        x = to_rgb(images.float()) * 2.0 - 1.0
        shift, scale = (self._tensors[name].view(3, 1, 1) for name in ("shift", "scale"))
        x = (x - shift) / scale
        if x.is_cuda:
            x = x.contiguous(memory_format=torch.channels_last)
        units = []
        for i, (convolutions, _) in enumerate(_STAGES):
            x = F.max_pool2d(x, 2) if i else x
            for j in convolutions:
                weight, bias = (
                    self._tensors[f"features.{j}.{kind}"] for kind in ("weight", "bias")
                )
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            # The inner _TINY keeps the gradient finite where all channels are zero.
            length = (x.float().square().sum(1, keepdim=True) + _TINY**2).sqrt()
            units.append(x.float() / (length + _TINY))
        return units

    def _follow(self, output: Tensor) -> None:
        if self._tensors["lin0"].device != output.device:
            moved = {name: tensor.to(output.device) for name, tensor in self._tensors.items()}
            if output.is_cuda:
                kernels = {n: t for n, t in moved.items() if t.ndim == 4}
                moved |= {
                    n: t.contiguous(memory_format=torch.channels_last) for n, t in kernels.items()
                }
            self._tensors = moved


def vgg16_shapes() -> Shapes:
    """Name and shape of every convolution's tensors, as torchvision has them."""
    shapes: Shapes = {}
    inputs = 3
    for convolutions, channels in _STAGES:
        for j in convolutions:
            shapes[f"features.{j}.weight"] = (channels, inputs, 3, 3)
            shapes[f"features.{j}.bias"] = (channels,)
            inputs = channels
    return shapes


def _heads() -> dict[str, Tensor]:
    """One weight per channel of each stage: lin0 to lin4."""
    expected: Shapes = {f"lin{i}": (width,) for i, (_, width) in enumerate(_STAGES)}
    with as_file(files("openunite.evaluation.images") / "assets" / HEADS_FILE) as path:
        return read_weights(path, expected)


def gradient_distance(
    output: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, " b"]:
    """Multi-scale gradient distance (B,), sensitive to missing, blurred and misplaced edges.

    Mean absolute error of the horizontal and vertical pixel differences, averaged over up to four
    scales, each half of the one before. For training without the weights of LPIPS; not LPIPS.
    """
    _check(output, target, min_side=2)
    error = output.float() - target.float()
    scales: list[Tensor] = []
    while len(scales) < 4 and min(error.shape[2:]) >= 2:
        down, right = error.diff(dim=2), error.diff(dim=3)
        scales.append(down.abs().flatten(1).mean(1) + right.abs().flatten(1).mean(1))
        error = F.avg_pool2d(error, 2)
    return torch.stack(scales).mean(0)


def _check(output: Tensor, target: Tensor, min_side: int = MIN_SIDE) -> None:
    if output.shape != target.shape or output.ndim != 4:
        raise ValueError(
            f"expected output and target of one shape (B, C, H, W), got {tuple(output.shape)} and "
            f"{tuple(target.shape)}; crop to one size"
        )
    if min(output.shape[2:]) < min_side:
        raise ValueError(
            f"expected sides of at least {min_side} pixels, got {tuple(output.shape[2:])}; "
            "choose another perceptual loss for smaller images"
        )
    low, high = target.detach().aminmax()
    if target.is_cuda:  # reading the bounds would make every training step wait for the device
        torch._assert_async((low >= 0.0) & (high <= 1.0), "expected target images in [0, 1]")
    elif not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"expected target images in [0, 1], got {low:.3g} to {high:.3g}; the scaling to "
            "[-1, 1] is done inside, do not normalize the images"
        )

"""InceptionV3 as in TensorFlow in 2015: the network of FID.

Differences from the usual InceptionV3: images are resized to 299 x 299 by TensorFlow 1's bilinear
rule (pixel corners, no antialiasing), average pools of the branches exclude the padding, the last
block uses a max pool, and there are 1,008 logits, computed without their bias (as torch-fidelity
does for the inception score). The weight file is that of torch-fidelity and pytorch-fid.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openunite.evaluation.images.features.base import Features, unit_rgb
from openunite.files import sha256_of
from openunite.pretrained import WeightFile, locate, read_weights, shapes_of

SIDE, FEATURES, LOGITS = 299, 2048, 1008
FILE = WeightFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "6726825d",
)
Kernel = int | tuple[int, int]


class Unit(nn.Module):
    """Convolution without bias, batch norm (eps 1e-3), ReLU; padding keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if stride == 1 else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35 x 35: 1x1, 5x5, two 3x3, pool."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Unit(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Unit(inputs, 48, 1), Unit(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(inputs, 64, 1), Unit(64, 96, 3)
        self.branch3x3dbl_3 = Unit(96, 96, 3)
        self.branch_pool = Unit(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """35 x 35 -> 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = Unit(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(inputs, 64, 1), Unit(64, 96, 3)
        self.branch3x3dbl_3 = Unit(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17 x 17: 1x1, one and two pairs of 1x7 and 7x1, pool."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = Unit(inputs, 192, 1)
        self.branch7x7_1, self.branch7x7_2 = Unit(inputs, inner, 1), Unit(inner, inner, row)
        self.branch7x7_3 = Unit(inner, 192, column)
        self.branch7x7dbl_1 = Unit(inputs, inner, 1)
        self.branch7x7dbl_2 = Unit(inner, inner, column)
        self.branch7x7dbl_3 = Unit(inner, inner, row)
        self.branch7x7dbl_4 = Unit(inner, inner, column)
        self.branch7x7dbl_5 = Unit(inner, 192, row)
        self.branch_pool = Unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """17 x 17 -> 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Unit(inputs, 192, 1), Unit(192, 320, 3, stride=2)
        self.branch7x7x3_1, self.branch7x7x3_2 = Unit(inputs, 192, 1), Unit(192, 192, (1, 7))
        self.branch7x7x3_3 = Unit(192, 192, (7, 1))
        self.branch7x7x3_4 = Unit(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8 x 8: 1x1, 3x3 and two 3x3 split into rows and columns, pool (of averages or maxima)."""

    def __init__(self, inputs: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1, self.branch3x3_1 = Unit(inputs, 320, 1), Unit(inputs, 384, 1)
        self.branch3x3_2a, self.branch3x3_2b = Unit(384, 384, (1, 3)), Unit(384, 384, (3, 1))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Unit(inputs, 448, 1), Unit(448, 384, 3)
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Unit(384, 384, (1, 3)), Unit(384, 384, (3, 1))
        self.branch_pool = Unit(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else _average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(once), self.branch3x3_2b(once)]
        parts += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([*parts, self.branch_pool(pooled)], 1)


class InceptionV3(nn.Module):
    """Images (B, 3, 299, 299) in [-1, 1] -> features (B, 2048) and logits (B, 1008), no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2a_3x3.conv.padding = (0, 0)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.Conv2d_4a_3x3.conv.padding = (0, 0)
        self.Mixed_5b, self.Mixed_5c = BlockA(192, 32), BlockA(256, 64)
        self.Mixed_5d, self.Mixed_6a = BlockA(288, 64), BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(768, 128), BlockC(768, 160)
        self.Mixed_6d, self.Mixed_6e = BlockC(768, 160), BlockC(768, 192)
        self.Mixed_7a, self.Mixed_7b = BlockD(768), BlockE(1280, maximum=False)
        self.Mixed_7c = BlockE(2048, maximum=True)
        self.fc = nn.Linear(FEATURES, LOGITS)

    def forward(self, x: Float[Tensor, "b 3 299 299"]) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = x.mean((2, 3))
        return features, F.linear(features, self.fc.weight)


class InceptionExtractor:
    """Images in [0, 1] -> the pooled features and logits of `network`."""

    name, dim, class_names = "inception", FEATURES, ()

    def __init__(self, network: InceptionV3, checksum: str) -> None:
        self._network, self.checksum = network.eval().requires_grad_(False), checksum
        published = checksum.startswith(FILE.digest)
        self.label = "FID" if published else "FD-Inception (weights not FID's)"

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Features:
        network = self._network.to(images.device)
        pixels = resize_as_tensorflow(unit_rgb(images) * 255.0, SIDE)
        features, logits = network((pixels - 128.0) / 128.0)
        return Features(features, logits)


def load_inception(weights: str | Path | None = None) -> InceptionExtractor:
    """The extractor of FID, from a path, a cache or the web."""
    path = locate(FILE, weights)
    state = read_weights(path, shapes_of(InceptionV3))
    network = InceptionV3()
    network.load_state_dict(state, strict=False)  # `read_weights` has checked names and shapes
    return InceptionExtractor(network, sha256_of(path))


def resize_as_tensorflow(images: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c s s"]:
    """`tf.image.resize_bilinear` of TensorFlow 1: pixel i is taken from i * size / side."""
    for axis in (2, 3):
        size = images.shape[axis]
        if size == side:
            continue
        place = torch.arange(side, device=images.device, dtype=torch.float32) * (size / side)
        low = place.floor().long()
        high = (low + 1).clamp_max(size - 1)
        share = (place - low).view((side, 1) if axis == 2 else (1, side))
        first, second = images.index_select(axis, low), images.index_select(axis, high)
        images = first + (second - first) * share
    return images

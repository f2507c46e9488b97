"""A small classifier of 28x28 clothing images, and the extractor that judges the quickstart.

It was trained by tools/train_fashion_classifier.py on the training split only; its penultimate
layer gives the features for Frechet distances.
"""

from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from openunite.data.images.arrays import FASHION_CLASSES
from openunite.evaluation.images.features.base import Features, check_images
from openunite.files import sha256_of

FEATURE_WIDTH = 64
WEIGHTS_FILE = "fashion_classifier.safetensors"
_WEIGHTS = files("openunite.evaluation.images") / "assets" / WEIGHTS_FILE


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class FashionClassifier(nn.Module):
    """Five convolutions on three scales, a hidden layer of 64 features, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            _convolution(1, 24),
            nn.MaxPool2d(2),
            _convolution(24, 48),
            _convolution(48, 48),
            nn.MaxPool2d(2),
            _convolution(48, 80),
            _convolution(80, 80),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.hidden = nn.Sequential(nn.Linear(80, FEATURE_WIDTH), nn.ReLU())
        self.head = nn.Linear(FEATURE_WIDTH, len(FASHION_CLASSES))

    def features(self, images: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b 64"]:
        """The penultimate layer, for images in [0, 1]."""
        if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
            raise ValueError(
                f"FashionClassifier expected images (B, 1, 28, 28), got {tuple(images.shape)}; "
                "it knows 28x28 grey images only, choose another --extractor"
            )
        features: Tensor = self.hidden(self.trunk(2.0 * images - 1.0))
        return features

    def forward(self, images: Float[Tensor, "b 1 28 28"]) -> Float[Tensor, "b 10"]:
        """Class logits, for images in [0, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def load_fashion_classifier() -> FashionClassifier:
    """The packaged classifier on the CPU, frozen and in eval mode."""
    model = FashionClassifier()
    with as_file(_WEIGHTS) as path:
        # Stored in float16 to halve the file; load_state_dict casts back to float32.
        model.load_state_dict(load_file(path))
    return model.eval().requires_grad_(False)


class FashionExtractor:
    """Images (B, 1, 28, 28) in [0, 1] -> 64 features and ten logits."""

    name, label, dim, class_names = "fashion", "FD-Fashion", FEATURE_WIDTH, FASHION_CLASSES

    def __init__(self) -> None:
        with as_file(_WEIGHTS) as path:
            self.checksum = sha256_of(path)
        self._network = load_fashion_classifier()

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 1 28 28"]) -> Features:
        check_images(images)
        network = self._network.to(images.device)
        features = network.features(images)
        return Features(features, network.head(features))


def load_fashion(weights: str | Path | None = None) -> FashionExtractor:
    """The extractor with the packaged weights. Raise ValueError if others are given."""
    if weights is not None:
        raise ValueError("extractor fashion has its weights inside; leave out the weights file")
    return FashionExtractor()

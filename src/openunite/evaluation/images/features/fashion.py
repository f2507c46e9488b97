"""The embedded classifier of Fashion-MNIST as an extractor, for 28 x 28 gray images only."""

from importlib.resources import as_file, files
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.data.images.arrays import FASHION_CLASSES
from openunite.evaluation.images.fashion_classifier import (
    FEATURE_WIDTH,
    WEIGHTS_FILE,
    load_fashion_classifier,
)
from openunite.evaluation.images.features.base import Features, check_images
from openunite.files import sha256_of


class FashionExtractor:
    """Images (B, 1, 28, 28) in [0, 1] -> 64 features and ten logits."""

    name, label, dim, class_names = "fashion", "FD-Fashion", FEATURE_WIDTH, FASHION_CLASSES

    def __init__(self) -> None:
        with as_file(files("openunite.evaluation.images") / "assets" / WEIGHTS_FILE) as path:
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

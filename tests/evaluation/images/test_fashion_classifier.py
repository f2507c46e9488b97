"""The packaged classifier: as good as claimed, small, frozen."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from torch import Tensor

from openunite.evaluation.images.features.fashion import (
    FEATURE_WIDTH,
    WEIGHTS_FILE,
    load_fashion_classifier,
)


def fashion(split: str) -> tuple[Tensor, Tensor]:
    path = files("openunite") / "data" / "images" / "assets" / "fashion_mnist_mini.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        images = torch.from_numpy(arrays[f"x_{split}"])[:, None].float() / 255.0
        return images, torch.from_numpy(arrays[f"y_{split}"]).long()


@pytest.fixture(scope="module")
def classifier():
    return load_fashion_classifier()


def test_accuracy_on_the_test_images(classifier) -> None:
    images, labels = fashion("test")
    assert len(images) == 1000
    accuracy = (classifier(images).argmax(1) == labels).double().mean().item()
    assert accuracy >= 0.90


def test_mirrored_clothes_are_the_same_clothes(classifier) -> None:
    """Trained with flips: a judge that cares for left and right would misjudge flipped samples."""
    images, labels = fashion("test")
    accuracy = (classifier(images.flip(-1)).argmax(1) == labels).double().mean().item()
    assert accuracy >= 0.89


def test_weights_file_is_small() -> None:
    asset = files("openunite.evaluation.images") / "assets" / WEIGHTS_FILE
    assert len(asset.read_bytes()) <= 300_000


def test_loaded_frozen_in_eval_mode_and_in_float32(classifier) -> None:
    assert not any(module.training for module in classifier.modules())
    assert not any(p.requires_grad for p in classifier.parameters())
    assert {p.dtype for p in classifier.parameters()} == {torch.float32}


def test_features_feed_the_head_and_do_not_depend_on_batch_mates(classifier) -> None:
    images, _ = fashion("test")
    features = classifier.features(images[:8])
    assert features.shape == (8, FEATURE_WIDTH)
    torch.testing.assert_close(classifier.head(features), classifier(images[:8]))
    torch.testing.assert_close(classifier.features(images[:1]), features[:1], atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_images(classifier) -> None:
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    classifier(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_other_images_are_refused(classifier) -> None:
    with pytest.raises(ValueError, match="28x28 grey"):
        classifier(torch.zeros(2, 3, 32, 32))

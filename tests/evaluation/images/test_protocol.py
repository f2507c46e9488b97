"""The quickstart protocol on models whose scores are known beforehand."""

import json
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
import pytest
import torch
from torch import Tensor

from openunite.evaluation.frechet import frechet_distance, statistics
from openunite.evaluation.images.features.fashion import (
    FashionClassifier,
    FashionExtractor,
    load_fashion_classifier,
)
from openunite.evaluation.images.protocol import ImageEvaluation, evaluate_images
from openunite.evaluation.images.table import flat_metrics

ALWAYS = {"recon_psnr_db", "recon_l1"}
DISTANCES = {"fd_samples", "fd_recon", "fd_blur", "fd_real"}
CLASSES = {"sample_accuracy", "sample_accuracy_guided", "fd_samples_guided"}


@dataclass
class TrainImagesAsSamples:
    """Sample i is the next training image of its class, whatever the scale; calls are recorded."""

    images: Tensor
    labels: Tensor
    calls: list[tuple[float, list[int], list[int]]] = field(default_factory=list)

    def __call__(self, labels: Tensor, seeds: Tensor, scale: float) -> Tensor:
        self.calls.append((scale, labels.tolist(), seeds.tolist()))
        return torch.stack([self.image(int(c), int(s)) for c, s in zip(labels, seeds, strict=True)])

    def image(self, label: int, seed: int) -> Tensor:
        return self.images[self.labels == label][seed // 10].float() / 255.0

    def asked(self, scale: float) -> tuple[list[int], list[int]]:
        calls = [call for call in self.calls if call[0] == scale]
        return [x for call in calls for x in call[1]], [x for call in calls for x in call[2]]


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Test images, their labels, 2000 training images, their labels."""
    path = files("openunite") / "data" / "images" / "assets" / "fashion_mnist_mini.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        images = [torch.from_numpy(arrays[f"x_{split}"])[:, None] for split in ("test", "train")]
        labels = [torch.from_numpy(arrays[f"y_{split}"]).long() for split in ("test", "train")]
    return images[0], labels[0], images[1][:2000], labels[1][:2000]


@pytest.fixture(scope="module")
def classifier() -> FashionClassifier:
    return load_fashion_classifier()


@pytest.fixture(scope="module")
def perfect(data) -> tuple[ImageEvaluation, TrainImagesAsSamples]:
    """A model that reconstructs exactly and samples training images of the right class."""
    test, test_labels, train, train_labels = data
    sample = TrainImagesAsSamples(train, train_labels)
    result = evaluate_images(
        reconstruct=lambda images: images,
        sample=sample,
        test_images=test,
        train_images=train[:1000],
        num_classes=10,
        guidance_scale=3.0,
        extractor=FashionExtractor(),
        test_labels=test_labels,
    )
    return result, sample


def test_keys_are_flat_json_numbers(perfect) -> None:
    metrics = flat_metrics(perfect[0].columns)
    assert set(metrics) == ALWAYS | DISTANCES | CLASSES | {"classifier_test_accuracy"}
    assert all(type(value) in (float, int) for value in metrics.values())
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert torch.equal(perfect[0].labels, torch.arange(1000) % 10)


def test_perfect_reconstruction(perfect, data) -> None:
    result = perfect[0]
    metrics = flat_metrics(result.columns)
    assert metrics["recon_psnr_db"] == pytest.approx(100.0)
    assert metrics["recon_l1"] == 0.0
    assert metrics["fd_recon"] < 1e-4
    torch.testing.assert_close(result.reconstructions, data[0].float() / 255.0)


def test_samples_are_class_balanced_and_seeded_alike(perfect) -> None:
    result, sample = perfect
    expected = ([i % 10 for i in range(1000)], list(range(1000)))
    assert sample.asked(1.0) == sample.asked(3.0) == expected
    assert max(len(labels) for _, labels, _ in sample.calls) == 250
    assert torch.equal(result.samples["unguided"], result.samples["guided"])
    assert torch.equal(result.samples["unguided"][13], sample.image(3, 13))


def test_accuracies_are_the_classifiers_own(perfect, data, classifier) -> None:
    result, metrics = perfect[0], flat_metrics(perfect[0].columns)
    hits = classifier(result.samples["unguided"]).argmax(1) == torch.arange(1000) % 10
    assert metrics["sample_accuracy"] == pytest.approx(hits.double().mean().item(), abs=1e-9)
    assert metrics["sample_accuracy_guided"] == metrics["sample_accuracy"]
    hits = classifier(data[0].float() / 255.0).argmax(1) == data[1]
    assert metrics["classifier_test_accuracy"] == pytest.approx(hits.double().mean().item())
    assert metrics["classifier_test_accuracy"] >= 0.90


def test_distances_are_taken_against_the_test_images(perfect, data, classifier) -> None:
    metrics = flat_metrics(perfect[0].columns)
    test, train = (
        statistics(classifier.features(x.float() / 255.0)) for x in (data[0], data[2][:1000])
    )
    assert metrics["fd_real"] == pytest.approx(frechet_distance(train, test), rel=1e-4)
    assert metrics["fd_samples"] == metrics["fd_samples_guided"]
    # Samples that are real images are as near as real images; a blur is seen.
    assert metrics["fd_samples"] < 2.0 * metrics["fd_real"]
    assert metrics["fd_blur"] > 3.0 * metrics["fd_real"]


def test_bad_models_score_badly(data) -> None:
    """Grey reconstructions; samples of the next class without guidance, of the right one with."""
    test, test_labels, train, train_labels = data
    source = TrainImagesAsSamples(train, train_labels)

    def sample(labels: Tensor, seeds: Tensor, scale: float) -> Tensor:
        return source(labels if scale == 2.0 else (labels + 1) % 10, seeds, scale)

    found = evaluate_images(
        reconstruct=lambda images: torch.full_like(images, 0.5),
        sample=sample,
        test_images=test[:200],
        train_images=train[:200],
        num_classes=10,
        guidance_scale=2.0,
        extractor=FashionExtractor(),
        test_labels=test_labels[:200],
        num_samples=100,
        batch_size=64,
    )
    metrics = flat_metrics(found.columns)
    real = test[:200].double() / 255.0
    expected = -10.0 * (real - 0.5).square().flatten(1).mean(1).log10().mean()
    assert metrics["recon_psnr_db"] == pytest.approx(expected.item(), abs=1e-3)
    assert metrics["recon_l1"] == pytest.approx((real - 0.5).abs().mean().item(), abs=1e-5)
    assert metrics["fd_recon"] > metrics["fd_blur"]
    assert metrics["sample_accuracy"] < 0.2
    assert metrics["sample_accuracy_guided"] > 0.8
    assert len(found.samples["guided"]) == 100


def test_unconditional_models_have_no_guided_numbers(data) -> None:
    test, test_labels, train, train_labels = data
    sample = TrainImagesAsSamples(train, train_labels)
    result = evaluate_images(
        reconstruct=lambda images: images,
        sample=sample,
        test_images=test[:100],
        train_images=train[:100],
        num_classes=0,
        guidance_scale=3.0,
        extractor=FashionExtractor(),
        test_labels=test_labels[:100],
        num_samples=100,
    )
    assert set(flat_metrics(result.columns)) == ALWAYS | DISTANCES
    assert list(result.samples) == ["unguided"]
    assert {scale for scale, _, _ in sample.calls} == {1.0}


def test_without_a_classifier_any_image_size_will_do() -> None:
    images = torch.randint(0, 256, (6, 3, 20, 12), dtype=torch.uint8)
    result = evaluate_images(
        reconstruct=lambda x: x * 0.5,
        sample=lambda labels, seeds, scale: torch.rand(len(labels), 3, 20, 12),
        test_images=images,
        train_images=images,
        test_labels=torch.zeros(6).long(),
        num_classes=4,
        guidance_scale=2.0,
        num_samples=9,
        batch_size=4,
    )
    assert set(flat_metrics(result.columns)) == ALWAYS
    assert {images.shape for images in result.samples.values()} == {(9, 3, 20, 12)}


def test_seams_of_samples_and_reconstructions_are_in_every_run() -> None:
    """Reconstructions of nearly flat patches have them; samples that are real images have 1."""
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)

    def reconstruct(x: Tensor) -> Tensor:
        means = torch.nn.functional.avg_pool2d(x, 8)
        return 0.9 * means.repeat_interleave(8, 2).repeat_interleave(8, 3) + 0.1 * x

    result = evaluate_images(
        reconstruct=reconstruct,
        sample=lambda labels, seeds, scale: images[: len(labels)] / 255.0,
        test_images=images,
        train_images=images,
        test_labels=torch.zeros(40).long(),
        num_classes=0,
        guidance_scale=1.0,
        num_samples=40,
        patch_size=8,
    )
    metrics = flat_metrics(result.columns)
    assert metrics["seams_samples"] == metrics["seams_real"] == pytest.approx(1.0)
    assert metrics["seams_recon"] > 1.2
    assert set(metrics) == ALWAYS | {"seams_samples", "seams_real", "seams_recon"}


def test_guidance_scale_one_costs_no_second_pass(data) -> None:
    sample = TrainImagesAsSamples(data[2], data[3])
    result = evaluate_images(
        reconstruct=lambda images: images,
        sample=sample,
        test_images=data[0][:10],
        test_labels=data[1][:10],
        train_images=data[2][:10],
        num_classes=10,
        guidance_scale=1.0,
        num_samples=20,
    )
    assert len(sample.calls) == 1
    assert result.samples["guided"] is result.samples["unguided"]


@pytest.mark.parametrize(
    ("images", "message"),
    [(torch.rand(4, 1, 28, 28), "uint8"), (torch.zeros(0, 1, 28, 28, dtype=torch.uint8), "none")],
)
def test_test_images_must_be_bytes_and_some(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"test_images: .*{message}"):
        evaluate_images(
            reconstruct=lambda x: x,
            sample=lambda labels, seeds, scale: torch.zeros(len(labels), 1, 28, 28),
            test_images=images,
            test_labels=torch.zeros(len(images)).long(),
            train_images=images,
            num_classes=0,
            guidance_scale=1.0,
        )

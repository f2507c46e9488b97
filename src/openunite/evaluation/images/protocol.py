"""The quickstart's protocol: how well a model reconstructs held-out images, and how its samples do.

Knows no model: it takes two callables. Frechet distances (`fd_*`) are taken in a small classifier's
penultimate features, always against the test images. Two yardsticks come with them: `fd_real`, what
other real images of the training split get, and `fd_blur`, what slightly blurred test images get.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from openunite.evaluation.frechet import GaussianStatistics, frechet_distance, statistics
from openunite.evaluation.images.fashion_classifier import FashionClassifier
from openunite.evaluation.images.metrics import box_blur3, l1, psnr

Reconstruct = Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] -> the same
Sample = Callable[[Tensor, Tensor, float], Tensor]  # labels (B,), seeds (B,), scale -> images
NO_GUIDANCE = 1.0


@dataclass(frozen=True)
class ImageEvaluation:
    """Flat metrics, and the images they were taken from; sample i has label i % num_classes."""

    metrics: dict[str, float | int | str]
    samples: Float[Tensor, "n c h w"]
    samples_guided: Float[Tensor, "n c h w"] | None
    reconstructions: Float[Tensor, "m c h w"]


def evaluate_images(
    *,
    reconstruct: Reconstruct,
    sample: Sample,
    test_images: UInt8[Tensor, "m c h w"],
    train_images: UInt8[Tensor, "k c h w"],
    num_classes: int,
    guidance_scale: float,
    classifier: FashionClassifier | None = None,
    test_labels: Int[Tensor, " m"] | None = None,
    num_samples: int = 1000,
    batch_size: int = 250,
) -> ImageEvaluation:
    """Reconstruct the test images, draw `num_samples` class-balanced samples, score both.

    Guided and unguided samples start from the same seeds, so they differ by guidance alone.
    `num_classes` 0 means an unconditional model: no guided samples, no accuracies. `test_labels`
    give `classifier_test_accuracy`, by which to read the sample accuracies.
    """
    real = _unit_range(test_images, "test_images")
    other_real = _unit_range(train_images, "train_images")
    outputs = _reconstruct_all(reconstruct, real, batch_size)
    labels = torch.arange(num_samples) % max(1, num_classes)
    samples = _sample_all(sample, labels, NO_GUIDANCE, batch_size)
    guided = None
    if num_classes > 0:
        same = guidance_scale == NO_GUIDANCE
        guided = samples if same else _sample_all(sample, labels, guidance_scale, batch_size)
    metrics: dict[str, float | int | str] = {
        "recon_psnr_db": float(psnr(outputs, real).double().mean()),
        "recon_l1": float(l1(outputs, real).double().mean()),
        "num_test_images": len(real),
        "num_samples": num_samples,
        "guidance_scale": float(guidance_scale),
    }
    if classifier is not None:
        judge = _Judge(classifier, real, batch_size)
        metrics |= judge.distances(samples, guided, outputs, other_real)
        metrics |= judge.accuracies(samples, guided, labels, test_labels)
    return ImageEvaluation(metrics, samples, guided, outputs)


class _Judge:
    """A classifier, and what the test images look like to it."""

    def __init__(self, classifier: FashionClassifier, real: Tensor, batch_size: int) -> None:
        self.classifier, self.real, self.batch_size = classifier, real, batch_size
        self.device = next(classifier.parameters()).device
        self.reference = self._statistics(real)

    def distances(
        self, samples: Tensor, guided: Tensor | None, outputs: Tensor, other_real: Tensor
    ) -> dict[str, float]:
        sets = {"fd_samples": samples}
        if guided is not None:
            sets["fd_samples_guided"] = guided
        sets |= {"fd_recon": outputs, "fd_blur": box_blur3(self.real), "fd_real": other_real}
        return {
            name: frechet_distance(self._statistics(images), self.reference)
            for name, images in sets.items()
        }

    def accuracies(
        self, samples: Tensor, guided: Tensor | None, labels: Tensor, test_labels: Tensor | None
    ) -> dict[str, float]:
        if guided is None:  # an unconditional model: its samples have no class to hit
            return {}
        result = {
            "sample_accuracy": self._accuracy(samples, labels),
            "sample_accuracy_guided": self._accuracy(guided, labels),
        }
        if test_labels is not None:
            result["classifier_test_accuracy"] = self._accuracy(self.real, test_labels)
        return result

    @torch.no_grad()
    def _statistics(self, images: Tensor) -> GaussianStatistics:
        features = [self.classifier.features(batch) for batch in self._batches(images)]
        return statistics(torch.cat(features))

    @torch.no_grad()
    def _accuracy(self, images: Tensor, labels: Tensor) -> float:
        found = [self.classifier(batch).argmax(1).cpu() for batch in self._batches(images)]
        return float((torch.cat(found) == labels.cpu()).double().mean())

    def _batches(self, images: Tensor) -> Iterator[Tensor]:
        return (batch.to(self.device) for batch in torch.split(images, self.batch_size))


def _unit_range(images: UInt8[Tensor, "n c h w"], name: str) -> Float[Tensor, "n c h w"]:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            f"{name}: expected uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}; "
            "pass the images as the data set stores them"
        )
    if len(images) == 0:
        raise ValueError(f"{name}: expected at least one image, got none; hold out some images")
    return images.cpu().float() / 255.0


def _reconstruct_all(reconstruct: Reconstruct, images: Tensor, batch_size: int) -> Tensor:
    batches = tqdm(torch.split(images, batch_size), desc="reconstruct", disable=None, leave=False)
    return torch.cat([reconstruct(batch).float().cpu() for batch in batches])


def _sample_all(sample: Sample, labels: Tensor, scale: float, batch_size: int) -> Tensor:
    """Sample i comes from seed i whatever the guidance scale."""
    seeds = torch.arange(len(labels))
    pairs = list(zip(torch.split(labels, batch_size), torch.split(seeds, batch_size), strict=True))
    batches = tqdm(pairs, desc=f"sample at scale {scale:g}", disable=None, leave=False)
    return torch.cat([sample(label, seed, scale).float().cpu() for label, seed in batches])

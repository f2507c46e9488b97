"""The evaluation at the end of `train`: images in memory, a few metrics that take seconds.

No model is needed, only two functions. Frechet distances are taken against the test images. Two
yardsticks come with them: other real images (of the training split), and slightly blurred test
images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from openunite.evaluation.images.feature_sets import features_of
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.metrics import box_blur3
from openunite.evaluation.images.pixels import over_real, pixel_ratios
from openunite.evaluation.images.table import (
    ACCURACY,
    FD,
    L1,
    PSNR,
    RECONSTRUCTION_FD,
    ImageMetrics,
)
from openunite.evaluation.measured import Columns, Measured
from openunite.progress import bar

Reconstruct = Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] -> the same
Sample = Callable[[Tensor, Tensor, float], Tensor]  # labels (B,), seeds (B,), scale -> images
NO_GUIDANCE = 1.0
BATCH_SIZE = 250


@dataclass(frozen=True)
class ImageEvaluation:
    """Metrics in columns, and images: samples "unguided" and "guided" with these labels."""

    columns: dict[str, dict[str, Measured]]
    labels: Int[Tensor, " n"]
    samples: dict[str, Float[Tensor, "n c h w"]]
    reconstructions: Float[Tensor, "m c h w"]


def evaluate_images(
    *,
    reconstruct: Reconstruct,
    sample: Sample,
    test_images: UInt8[Tensor, "m c h w"],
    test_labels: Int[Tensor, " m"],
    train_images: UInt8[Tensor, "k c h w"],
    num_classes: int,
    guidance_scale: float,
    extractor: Extractor | None = None,
    num_samples: int = 1000,
    batch_size: int = BATCH_SIZE,
    patch_size: int = 1,
) -> ImageEvaluation:
    """Reconstruct the test images, draw `num_samples` class-balanced samples, measure both.

    Guided and unguided samples start from the same seeds, so they differ by guidance alone.
    `num_classes` 0 is an unconditional model: no guided samples, no accuracies. Otherwise the
    classes must be those of the extractor. Without an extractor only pixels are compared; for
    seams, `patch_size` is the side of the model's patches.
    """
    real = _unit_range(test_images, "test_images")
    other_real = _unit_range(train_images, "train_images")
    outputs = _reconstruct_all(reconstruct, real, batch_size)
    labels = torch.arange(num_samples) % max(1, num_classes)
    sets = {"unguided": _sample_all(sample, labels, NO_GUIDANCE, batch_size)}
    if num_classes > 0:
        sets["guided"] = sets["unguided"]
        if guidance_scale != NO_GUIDANCE:
            sets["guided"] = _sample_all(sample, labels, guidance_scale, batch_size)
    columns = {"reconstructions": _errors(outputs, real)}
    if extractor is not None:
        features = partial(features_of, extractor, batch_size=batch_size)
        metrics = ImageMetrics(features(real), num_classes > 0, (FD, ACCURACY))
        measured = {name: metrics.evaluate(features(each), labels) for name, each in sets.items()}
        columns = measured | columns
        columns["real images"] = metrics.evaluate(features(other_real), None)
        columns["blurred images"] = metrics.evaluate(features(box_blur3(real)), None)
        columns["reference"] = metrics.only(ACCURACY).evaluate(metrics.reference, test_labels)
        distance = metrics.only(RECONSTRUCTION_FD).evaluate(features(outputs), None)
        columns["reconstructions"] = distance | columns["reconstructions"]
    shown = sets | {"real images": other_real, "reconstructions": outputs}
    return ImageEvaluation(
        _with_pixel_metrics(columns, shown, real, patch_size), labels, sets, outputs
    )


def _with_pixel_metrics(
    columns: Columns, shown: Mapping[str, Tensor], real: Tensor, patch_size: int
) -> dict[str, dict[str, Measured]]:
    """Columns with the pixel metrics of the sets of images added."""
    own = pixel_ratios(real.split(BATCH_SIZE), patch_size)
    every = {name: dict(column) for name, column in columns.items()}
    for name, images in shown.items():
        if found := over_real(pixel_ratios(images.split(BATCH_SIZE), patch_size), own):
            every[name] = every.get(name, {}) | found
    return every


def _errors(outputs: Tensor, real: Tensor) -> dict[str, Measured]:
    return {
        row.name: Measured(float(row.compute(outputs, real).double().mean())) for row in (L1, PSNR)
    }


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
    batches = bar(torch.split(images, batch_size), desc="reconstruct", disable=None, leave=False)
    return torch.cat([reconstruct(batch).float().cpu() for batch in batches])


def _sample_all(sample: Sample, labels: Tensor, scale: float, batch_size: int) -> Tensor:
    """Samples of these labels; sample i has seed i at every guidance scale."""
    seeds = torch.arange(len(labels))
    pairs = list(zip(torch.split(labels, batch_size), torch.split(seeds, batch_size), strict=True))
    batches = bar(pairs, desc=f"sample at scale {scale:g}", disable=None, leave=False)
    return torch.cat([sample(label, seed, scale).float().cpu() for label, seed in batches])

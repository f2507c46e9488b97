"""A score of the samples of one's own images, beside other real images and blurred ones."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from openunite.evaluation.images.feature_sets import features_of
from openunite.evaluation.images.features import extractor_for, load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.metrics import box_blur3
from openunite.evaluation.images.protocol import ImageEvaluation
from openunite.evaluation.images.table import KID, MIN_IMAGES, ImageMetrics
from openunite.evaluation.measured import Measured
from openunite.progress import say

MOST_SCORED = 100  # images of each set: four sets of them take a CPU 5 to 20 seconds
_BATCH = 25


def score_extractor(data: str) -> Extractor | None:
    """The extractor for a score; without its weights a line says how to get them."""
    try:
        return load_extractor(extractor_for(data))
    except (ImportError, FileNotFoundError) as error:
        say(f"no score of samples: {error}")
        return None


def with_score(
    found: ImageEvaluation, extractor: Extractor, test_images: Tensor, train_images: Tensor
) -> ImageEvaluation:
    """The evaluation with KID against the test images, which is unbiased for few images, too."""
    real, best = _some(test_images), best_of(found.samples)
    sets = {
        best: found.samples[best],
        "real images": train_images,
        "blurred images": box_blur3(real),
    }
    if min(map(len, (real, *sets.values()))) < MIN_IMAGES:
        return found
    metrics = ImageMetrics(features_of(extractor, real, _BATCH), False, (KID,))
    columns = {name: dict(column) for name, column in found.columns.items()}
    for name, images in sets.items():
        features = features_of(extractor, _some(images), _BATCH)
        columns[name] = metrics.evaluate(features, None) | columns.get(name, {})
    return replace(found, columns=columns)


def best_of(sets: Collection[str]) -> str:
    """The name of the set of samples that is shown and scored."""
    return "guided" if "guided" in sets else "unguided"


def in_words(columns: Mapping[str, Mapping[str, Measured]]) -> str:
    """The score of the samples and what to compare it with, as a sentence; "" without a score."""
    names = best_of(columns), "blurred images", "real images"
    found = [columns.get(name, {}).get(KID.name) for name in names]
    own, blurred, real = found
    if own is None or blurred is None or real is None:
        return ""
    return (
        f"KID of samples {own.value:.3f} +- {own.error or 0.0:.3f} (lower is better); of real "
        f"images slightly blurred {blurred.value:.3f}, of other real images {real.value:.3f}"
    )


def _some(images: Tensor) -> Tensor:
    """Images as floats; at most MOST_SCORED, evenly spaced, since data are often sorted."""
    rows = torch.linspace(0, len(images) - 1, min(MOST_SCORED, len(images))).round().long()
    chosen = images[rows]
    return chosen.float() / 255.0 if chosen.dtype == torch.uint8 else chosen

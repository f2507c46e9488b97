"""A score of the samples of one's own images, beside other real images and blurred ones."""

import torch
from torch import Tensor

from openunite.evaluation.feature_metrics import kernel_distance
from openunite.evaluation.images.feature_sets import features_of
from openunite.evaluation.images.features import extractor_for, load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.metrics import box_blur3
from openunite.evaluation.images.table import MIN_IMAGES
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


def score(
    samples: Tensor, test_images: Tensor, train_images: Tensor, extractor: Extractor
) -> dict[str, float]:
    """KID of samples, of training images and of blurred test images against the test images.

    It is unbiased for few images, too. The result is empty if there are fewer than four of a set.
    """
    real = _some(test_images)
    sets = {"samples": _some(samples), "blur": box_blur3(real), "real": _some(train_images)}
    if min(map(len, sets.values())) < MIN_IMAGES:
        return {}
    reference, found = features_of(extractor, real, _BATCH).features, dict[str, float]()
    for name, images in sets.items():
        kid = kernel_distance(features_of(extractor, images, _BATCH).features, reference)
        found |= {f"kid_{name}": kid.value, f"kid_{name}_se": kid.error or 0.0}
    return found


def in_words(found: dict[str, float]) -> str:
    """What a score says, as a sentence."""
    return (
        f"KID of samples {found['kid_samples']:.3f} +- {found['kid_samples_se']:.3f} (lower is "
        f"better); of real images slightly blurred {found['kid_blur']:.3f}, of other real images "
        f"{found['kid_real']:.3f}"
    )


def _some(images: Tensor) -> Tensor:
    """Images as floats; at most MOST_SCORED, evenly spaced, since data are often sorted."""
    rows = torch.linspace(0, len(images) - 1, min(MOST_SCORED, len(images))).round().long()
    chosen = images[rows]
    return chosen.float() / 255.0 if chosen.dtype == torch.uint8 else chosen

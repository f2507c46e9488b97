"""Sizes of an image run that suit the data and the machine."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openunite.data.images.look import ImageSummary
from openunite.task import Options
from openunite.training.config import RunConfig
from openunite.training.device import choose_device
from openunite.training.sizes import get_size


def fit_to_images(config: RunConfig, summary: ImageSummary, options: Options) -> RunConfig:
    """Set image size, patch and model size by the data and the machine.

    On a CPU images are resized to at most 32 pixels a side (64 for runs of an hour or more), on a
    GPU to at most 128; patches are an eighth of the side, so there are about 64 of them.
    """
    gpu, minutes = choose_device().type == "cuda", options.minutes or 30.0
    largest = 128 if gpu else 64 if minutes >= 60 else 32
    side = options.image_size or max(8, min(largest, summary.height, summary.width))
    patch = options.patch_size or max(1, side // 8)
    size = options.size or (("S" if minutes >= 60 else "tiny") if gpu else "nano")
    shape = {"height": side, "width": side, "channels": summary.channels, "patch_size": patch}
    settings = {**config.modality_config, **shape}
    return replace(
        config,
        modality_config=settings,
        model=get_size(size).model(num_patches(settings), 16),
        batch_size=256 if gpu else 32,
        precision="bf16" if gpu else "no",
        num_classes=summary.num_classes,
    )


def num_patches(settings: Mapping[str, Any]) -> int:
    """The number of patches of an image, including those that reach over its border."""
    patch = settings["patch_size"]
    return math.ceil(settings["height"] / patch) * math.ceil(settings["width"] / patch)

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

_LONG = 60.0  # minutes from which a CPU can pay for more tokens and larger images


def fit_to_images(config: RunConfig, summary: ImageSummary, options: Options) -> RunConfig:
    """Set image size, patch and model size by the data, the machine and the minutes.

    On a CPU images are resized to at most 32 pixels a side (64 for runs of an hour or more), on a
    GPU to at most 128. There are about 16 patches, 64 in long runs and on a GPU: few tokens make
    steps that are several times as cheap, and more steps decide a short run (docs/LOG.md).
    """
    gpu, minutes = choose_device().type == "cuda", options.minutes or 30.0
    long = minutes >= _LONG
    largest = 128 if gpu else 64 if long else 32
    side, patch = sides(
        options.image_size or max(8, min(largest, summary.height, summary.width)),
        options.patch_size,
        8 if gpu or long else 4,
        fixed=options.image_size is not None,
    )
    size = options.size or (("S" if long else "tiny") if gpu else "nano")
    shape = {"height": side, "width": side, "channels": summary.channels, "patch_size": patch}
    settings = {**config.modality_config, **shape}
    return replace(
        config,
        modality_config=settings,
        model=get_size(size).model(num_patches(settings), _channels(patch, summary.channels)),
        batch_size=256 if gpu else 32,
        precision="bf16" if gpu else "no",
        num_classes=summary.num_classes,
    )


def sides(side: int, patch: int | None, rows: int, *, fixed: bool = False) -> tuple[int, int]:
    """The side of images and of patches, about `rows` of them to a side.

    The patch divides the side. Where none that does is near what was wanted, a side that only the
    data suggest is lowered, and a `fixed` one has patches that reach over its border.
    """
    if patch is not None:
        return side if fixed else max(patch, side // patch * patch), patch
    divisors = [n for n in range(1, side) if side % n == 0]
    near = min(divisors, key=lambda n: abs(math.log(side / n / rows)), default=1)
    if abs(math.log(side / near / rows)) <= math.log(1.5):
        return side, near
    patch = max(1, side // rows)
    return (side if fixed else side // patch * patch), patch


def _channels(patch: int, channels: int) -> int:
    """Channels of a latent: about a sixth of the numbers in a patch, 16 to 32."""
    return max(16, min(32, patch * patch * channels // 6))


def num_patches(settings: Mapping[str, Any]) -> int:
    """The number of patches of an image, including those that reach over its border."""
    patch = settings["patch_size"]
    return math.ceil(settings["height"] / patch) * math.ceil(settings["width"] / patch)

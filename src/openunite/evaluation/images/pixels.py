"""Metrics of the pixels of a set of images beside those of real images: seams and alpha.

Each is a ratio of two sums over all images, divided by the same ratio of real images, so 1 is what
real images have.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.data.images.color import to_rgb
from openunite.evaluation.measured import Measured, Metric

_CLEAR, _OPAQUE = 0.02, 0.98


@dataclass(frozen=True, kw_only=True)
class PixelMetric(Metric):
    """A metric of pixels: `compute` gives the two terms of each image (B, 2), which are summed.

    It is told the side of the model's patches in pixels. `applies` says for which shapes
    (C, H, W) and patches the metric means anything.
    """

    compute: Callable[[Tensor, int], Tensor]
    applies: Callable[[tuple[int, ...], int], bool]


def seam_terms(images: Float[Tensor, "b c h w"], patch: int) -> Float[Tensor, "b 2"]:
    """Mean absolute step between neighboring pixels across patch borders, and that inside patches.

    Alpha is laid over white first, because colors below transparent pixels are not seen.
    """
    seen = to_rgb(images)
    sums, counts = seen.new_zeros(len(seen), 2), [0, 0]
    for axis in (2, 3):
        steps = seen.diff(dim=axis).abs().mean((1, 5 - axis))  # (B, steps along the axis)
        inside = torch.arange(1, seen.shape[axis], device=seen.device) % patch > 0
        for i, chosen in enumerate((~inside, inside)):
            across = seen.shape[5 - axis]
            sums[:, i] += steps[:, chosen].sum(1) * across
            counts[i] += int(chosen.sum()) * across
    return sums / sums.new_tensor(counts).clamp_min(1.0)


def alpha_terms(images: Float[Tensor, "b c h w"], patch: int) -> Float[Tensor, "b 2"]:
    """The share of pixels with alpha between 2 and 98 %, and 1."""
    alpha = images[:, -1].flatten(1)
    between = ((alpha > _CLEAR) & (alpha < _OPAQUE)).to(images.dtype).mean(1)
    return torch.stack([between, torch.ones_like(between)], dim=1)


SEAMS = PixelMetric(
    *("seams", "seams", "neither"),
    words="Mean absolute step of pixels across patch borders over that inside patches, divided by "
    "the same of real images; 1 is no seam",
    form="{:.3f}",
    compute=seam_terms,
    applies=lambda shape, patch: 1 < patch < max(shape[1:]),
)
ALPHA = PixelMetric(
    *("partly_clear", "partly clear", "neither"),
    words="Share of pixels with alpha between 2 and 98 % over that of real images; 1 is as many",
    form="{:.3f}",
    compute=alpha_terms,
    applies=lambda shape, patch: shape[0] in (2, 4),
)
PIXEL_METRICS = (SEAMS, ALPHA)


def pixel_ratios(
    batches: Iterable[Tensor], patch: int, metrics: Sequence[PixelMetric] = PIXEL_METRICS
) -> dict[str, float]:
    """The ratio of every pixel metric that applies to batches (B, C, H, W), bytes or in [0, 1].

    `over_real` divides it by that of real images.
    """
    sums: dict[str, Tensor] = {}
    for batch in batches:
        images = batch.float() / 255.0 if batch.dtype == torch.uint8 else batch.float()
        for metric in metrics:
            if metric.applies(tuple(images.shape[1:]), patch):
                terms = metric.compute(images.cpu(), patch).double().sum(0)
                sums[metric.name] = sums.get(metric.name, torch.zeros(2)) + terms
    return {name: float(a / b) for name, (a, b) in sums.items() if b > 0.0}


def over_real(found: Mapping[str, float], real: Mapping[str, float]) -> dict[str, Measured]:
    """The metrics of a set; without those that real images have nothing of to compare with."""
    return {name: Measured(found[name] / real[name]) for name in found if real.get(name)}

"""Decoded points on straight lines between the latents of two images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.analysis.base import Analysis
from openunite.drawing.figures import picture_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 9


@dataclass(frozen=True)
class Interpolation(Analysis):
    """Images (pairs, points, C, H, W) on lines between latents, and mixed pixels for comparison."""

    name: ClassVar[str] = "interpolation"
    title: ClassVar[str] = "Between two images"
    reading: ClassVar[str] = (
        "The upper row of each pair follows a straight line between the latents of two images; the "
        "lower row mixes their pixels. In a smooth latent space the image changes in even steps "
        "(largest step over mean step near 1) and stays plausible, while mixed pixels show both "
        "images at once."
    )
    chart: ClassVar[bool] = False

    latent: Float[Tensor, "pairs points c h w"]
    pixel: Float[Tensor, "pairs points c h w"]

    @property
    def steps(self) -> Float[Tensor, "pairs steps"]:
        """Root mean square difference between the images of neighboring points."""
        return self.latent.diff(dim=1).square().flatten(2).mean(2).sqrt()

    def numbers(self) -> dict[str, Any]:
        steps = self.steps
        unevenness = steps.max(1).values / steps.mean(1).clamp_min(1e-12)
        return {
            "largest step / mean step, mean over pairs": float(unevenness.mean()),
            "worst pair": float(unevenness.max()),
            "pairs": len(steps),
            "steps": steps.tolist(),
        }

    def figure(self) -> "Figure":
        shown = slice(0, 4)
        rows = torch.stack([self.latent[shown], self.pixel[shown]], dim=1).flatten(0, 1)
        fractions = torch.linspace(0.0, 1.0, rows.shape[1]).tolist()
        names = ["latents", "pixels"] * (len(rows) // 2)
        return picture_figure(rows, names, [f"{fraction:.2g}" for fraction in fractions])


def interpolate_latents(
    first: Float[Tensor, "p k c"],
    second: Float[Tensor, "p k c"],
    decode: Callable[[Tensor], Tensor],
    points: int = POINTS,
) -> Interpolation:
    """Decode points on the line from each latent of `first` to that of `second`, ends included."""
    weights = torch.linspace(0.0, 1.0, points, device=first.device)
    line = torch.lerp(first[:, None], second[:, None], weights[:, None, None])
    images = decode(line.flatten(0, 1)).cpu().unflatten(0, (-1, points))
    mixed = torch.lerp(images[:, :1], images[:, -1:], weights.cpu()[:, None, None, None])
    return Interpolation(images, mixed)

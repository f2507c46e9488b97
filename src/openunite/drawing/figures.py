"""Panels for curves, and tiled images with names along both sides."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GRAY = "#2f6fb3", "#e07b28", "#3f9a5c", "#8a8a8a"
DPI = 100

_SMOOTHED_FRACTION = 0.02  # window of the running mean, relative to the run
_BACKGROUND = 0.5  # shown behind transparent pixels
_GAP = 2


def panels(
    count: int, width: float = 9.0, height: float = 3.4, *, rows: int = 1, **options: Any
) -> "tuple[Figure, list[Axes]]":
    """A figure of `count` axes in rows; sizes in inches, `options` of matplotlib's `subplots`."""
    from matplotlib.figure import Figure  # pyplot would keep global state

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    axes = list(figure.subplots(rows, count // rows, squeeze=False, **options).flatten())
    for panel in axes:
        panel.grid(color="0.9", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def shades(count: int, map_name: str = "viridis") -> list[tuple[float, ...]]:
    """`count` RGBA colors of a color map, from dark to light."""
    from matplotlib import colormaps

    return [colormaps[map_name](x) for x in np.linspace(0.05, 0.88, count)]


def running_mean(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Centered running mean (N,); windows end at the ends of the run."""
    reach = int(len(values) * _SMOOTHED_FRACTION / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, end = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    mean: NDArray[np.float64] = (sums[end] - sums[first]) / (end - first)
    return mean


def tile(images: Float[Tensor, "rows columns c h w"], scale: int = 1) -> NDArray[np.uint8]:
    """One uint8 picture (H, W, 3) of images in [0, 1], enlarged `scale` times by repetition."""
    rows, columns = images.shape[:2]
    color = _to_rgb(images.flatten(0, 1)).clamp(0.0, 1.0)
    color = color.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    padded = torch.nn.functional.pad(color, (0, _GAP, 0, _GAP), value=1.0)
    grid = padded.unflatten(0, (rows, columns)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    pixels: NDArray[np.uint8] = (grid[:-_GAP, :-_GAP] * 255.0).round().byte().cpu().numpy()
    return pixels


def picture_figure(
    images: Float[Tensor, "rows columns c h w"],
    row_names: Sequence[str],
    column_names: Sequence[str] = (),
    side: float = 0.62,
) -> "Figure":
    """A figure of tiled images; `side` is the width of one image in inches."""
    from matplotlib.figure import Figure

    rows, columns = images.shape[:2]
    height, width = images.shape[3] + _GAP, images.shape[4] + _GAP
    margin = 0.3 + 0.075 * max(map(len, row_names))
    size = (margin + columns * side, 0.35 + rows * side * height / width)
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    panel = figure.subplots()
    panel.imshow(tile(images), interpolation="nearest")
    panel.set_yticks((np.arange(rows) + 0.5) * height - 1, row_names, fontsize=8)
    places = (np.arange(len(column_names)) + 0.5) * width - 1
    panel.set_xticks(places, list(column_names), fontsize=8)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    return figure


def _to_rgb(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """Images of 1 to 4 channels as RGB; transparent pixels are blended with mid-gray."""
    if images.shape[1] in (2, 4):
        color, alpha = images[:, :-1], images[:, -1:]
        images = color * alpha + _BACKGROUND * (1.0 - alpha)
    return images.expand(-1, 3, -1, -1)

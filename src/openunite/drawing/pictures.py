"""Pictures of a run: grids of images, and curves of metrics.jsonl."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from openunite.drawing.figures import panels, running_mean
from openunite.training.log import Row, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Images = UInt8[Tensor, "n c h w"] | Float[Tensor, "n c h w"]
Pixels = NDArray[np.uint8]
Series = NDArray[np.float64]

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_SIDE = 96  # small images are enlarged up to about this many pixels
_GAP = 2
_BLOCK_GAP = 10
_GAP_GRAY = 72
_FONT_SIZE = 14
_MAX_NAME = 24
MOST_SHOWN = 10  # number of classes in a picture of samples, and of samples per class


# ---- grids ----------------------------------------------------------------------------------


def image_grid(images: Images, columns: int, scale: int | None = None) -> Image.Image:
    """Images (N, C, H, W), uint8 or floats in [0, 1], row by row; 1 to 4 channels are kept.

    `scale` is the integer by which images are enlarged; None enlarges small images until they are
    visible. Empty places have the color of the gaps (they are transparent if images have alpha).
    """
    if columns < 1:
        raise ValueError(f"columns: expected at least 1, got {columns}; pass a positive number")
    tiles = _tiles(images, scale)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    return _paste(rows, [_GAP] * (len(rows) - 1))


def class_grid(
    samples: UInt8[Tensor, "r k c h w"] | Float[Tensor, "r k c h w"],
    class_names: Sequence[str] = (),
    scale: int | None = None,
) -> Image.Image:
    """One row of samples per class, with the name of the class on the left."""
    if samples.ndim != 5:
        raise ValueError(
            f"expected samples (classes, per class, C, H, W), got {tuple(samples.shape)}; "
            "stack one (K, C, H, W) tensor per class"
        )
    if class_names and len(class_names) != len(samples):
        raise ValueError(
            f"expected {len(samples)} class names, got {len(class_names)}; pass one per row"
        )
    tiles = _tiles(samples.flatten(0, 1), scale)
    rows = np.split(tiles, len(samples))
    gaps = [_GAP] * (len(rows) - 1)
    return _label_rows(_paste(rows, gaps), class_names, tiles.shape[1], gaps)


def sample_grid(samples: Tensor, class_names: tuple[str, ...]) -> Image.Image:
    """A picture of up to ten classes by ten samples; `samples` are of the classes in turn."""
    classes = min(MOST_SHOWN, len(class_names))
    if classes == 0:
        return image_grid(samples[: MOST_SHOWN**2], columns=MOST_SHOWN)
    rows = [samples[c::classes][:MOST_SHOWN] for c in range(classes)]
    return class_grid(torch.stack(rows), class_names[:classes])


def pair_grid(
    inputs: Images, outputs: Images, columns: int = 10, scale: int | None = None
) -> Image.Image:
    """Each input above its output, in blocks of `columns` pairs."""
    if inputs.shape != outputs.shape:
        raise ValueError(
            f"expected inputs and outputs of one shape, got {tuple(inputs.shape)} and "
            f"{tuple(outputs.shape)}; pass the same images in the same order"
        )
    above, below = _tiles(inputs, scale), _tiles(outputs, scale)
    rows = [
        tiles[i : i + columns] for i in range(0, len(above), columns) for tiles in (above, below)
    ]
    gaps = [_GAP if i % 2 == 0 else _BLOCK_GAP for i in range(len(rows) - 1)]
    names = ["input", "output"] * (len(rows) // 2)
    return _label_rows(_paste(rows, gaps), names, above.shape[1], gaps)


def _tiles(images: Images, scale: int | None) -> Pixels:
    """Enlarged images as uint8 (N, H, W, C)."""
    if images.ndim != 4 or images.shape[1] not in _MODES or len(images) == 0:
        raise ValueError(
            f"expected at least one image (N, C, H, W) with C of 1 to 4, got "
            f"{tuple(images.shape)}; add the batch axis, channels come second"
        )
    pixels = images.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.float().nan_to_num() * 255.0).round().clamp(0.0, 255.0).to(torch.uint8)
    elif pixels.dtype != torch.uint8:
        raise ValueError(f"expected uint8 or floats in [0, 1], got {pixels.dtype}; convert first")
    if scale is None:
        scale = max(1, _SIDE // max(images.shape[2:]))
    pixels = pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return pixels.permute(0, 2, 3, 1).numpy()


def _paste(rows: Sequence[Pixels], gaps: Sequence[int]) -> Image.Image:
    """Paste rows of equally large tiles onto one canvas; `gaps[i]` is the space below row i."""
    _, height, width, channels = rows[0].shape
    columns = max(len(row) for row in rows)
    canvas = np.full(
        (
            len(rows) * height + sum(gaps),
            columns * width + (columns - 1) * _GAP,
            channels,
        ),
        0 if channels in (2, 4) else _GAP_GRAY,
        dtype=np.uint8,
    )
    top = 0
    for row, gap in zip(rows, [*gaps, 0], strict=True):
        for i, tile in enumerate(row):
            left = i * (width + _GAP)
            canvas[top : top + height, left : left + width] = tile
        top += height + gap
        if gap > _GAP:
            canvas[top - gap : top] = 255  # white separates blocks
    return Image.fromarray(canvas[..., 0] if channels == 1 else canvas, _MODES[channels])


def _label_rows(
    picture: Image.Image, names: Sequence[str], height: int, gaps: Sequence[int]
) -> Image.Image:
    """Write a name beside each row, on a margin that fits the longest name."""
    if not names:
        return picture
    font = ImageFont.load_default(size=_FONT_SIZE)
    short = [n if len(n) <= _MAX_NAME else n[: _MAX_NAME - 2] + ".." for n in names]
    margin = 16 + math.ceil(max(font.getlength(name) for name in short))
    alpha = picture.mode in ("LA", "RGBA")
    color = picture.convert("RGBA" if alpha else "RGB")
    canvas = Image.new(color.mode, (margin + picture.width, picture.height), "white")
    canvas.paste(color, (margin, 0))
    draw = ImageDraw.Draw(canvas)
    top = 0
    for name, gap in zip(short, [*gaps, 0], strict=True):
        place = (margin - 8, top + height / 2)
        draw.text(place, name, fill="black", font=font, anchor="rm")
        top += height + gap
    return canvas


# ---- curves ---------------------------------------------------------------------------------


def draw_curves(metrics_jsonl_path: Path, out_png: Path) -> None:
    """Losses, latent spread and learning rate over the optimizer steps of a metrics.jsonl."""
    rows = read_rows(Path(metrics_jsonl_path))
    figure, axes = panels(4, 12.0, 7.5, rows=2, sharex=True)
    draw = (_draw_reconstruction, _draw_flow, _draw_latents, _draw_learning_rate)
    for panel, draw_into in zip(axes, draw, strict=True):
        draw_into(panel, rows)
        panel.margins(x=0.01)
    for panel in axes[2:]:
        panel.set_xlabel("optimizer step")
    figure.savefig(out_png, dpi=110)


def _draw_reconstruction(panel: "Axes", rows: Sequence[Row]) -> None:
    panel.set_title("reconstruction loss: falls throughout", fontsize=11)
    steps, values = _series(rows, "loss_reconstruction")
    if len(values) and values.min() > 0.0:
        panel.set_yscale("log", subs=(2, 3, 5))
        panel.yaxis.set_major_formatter("{x:g}")  # 0.02, not 2 x 10^-2
        panel.yaxis.set_minor_formatter("{x:g}")
    _line(panel, steps, values, "tab:blue")


def _draw_flow(panel: "Axes", rows: Sequence[Row]) -> None:
    title = "flow loss: a rise or plateau is healthy, an early fall to 0 is collapse"
    panel.set_title(title, fontsize=11)
    _line(panel, *_series(rows, "loss_flow"), "tab:orange")
    panel.set_ylim(bottom=0.0)  # a fall to 0 should look like one


def _draw_latents(panel: "Axes", rows: Sequence[Row]) -> None:
    panel.set_title("latent spread: far from 0 is healthy", fontsize=11)
    _line(panel, *_series(rows, "latent_spread"), "tab:green")
    panel.set_ylim(bottom=0.0)
    steps, values = _series(rows, "effective_rank")
    if len(values):
        panel.set_ylabel("latent spread", color="tab:green")
        twin = panel.twinx()
        twin.plot(steps, values, color="tab:purple", linewidth=1.2, marker=".", markersize=4)
        twin.set_ylabel("effective rank", color="tab:purple")
        twin.set_ylim(bottom=0.0)
        twin.spines["top"].set_visible(False)


def _draw_learning_rate(panel: "Axes", rows: Sequence[Row]) -> None:
    panel.set_title("learning rate", fontsize=11)
    _line(panel, *_series(rows, "learning_rate"), "tab:red")
    panel.set_ylim(bottom=0.0)
    panel.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))


def _line(panel: "Axes", steps: Series, values: Series, color: str) -> None:
    """Plot the raw values in a pale color and their running mean on top."""
    if len(values) == 0:
        words = "nothing logged"
        panel.text(0.5, 0.5, words, transform=panel.transAxes, ha="center", color="0.5")
        return
    panel.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
    panel.plot(steps, running_mean(values), color=color, linewidth=1.8)


def _series(rows: Sequence[Row], key: str) -> tuple[Series, Series]:
    """Steps and finite values of the rows that have `key`."""
    pairs = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float))]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(1)]
    return table[:, 0], table[:, 1]

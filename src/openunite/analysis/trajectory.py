"""The sampling trajectory: state and prediction of the network at each step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from openunite.analysis.base import Analysis
from openunite.drawing.figures import picture_figure, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STRIP_TIMES, _STRIP_ROWS = 9, 3
_GIF_COLUMNS = 5
_GIF_SIDE = 84  # small images are enlarged to about this many pixels
_FRAME, _LAST_FRAME = 160, 1600  # milliseconds


@dataclass(frozen=True)
class Trajectory(Analysis):
    """Decoded states z_t and predictions z0^ (T, B, C, H, W) at the times (T,)."""

    name: ClassVar[str] = "trajectory"
    title: ClassVar[str] = "From noise to image"
    reading: ClassVar[str] = (
        "Each sample has two rows: the decoded state z_t and, below it, the prediction that the "
        "network makes from it. Predictions should begin as a blurry average of the class, settle "
        "on one image early, and gain detail until the end."
    )
    chart: ClassVar[bool] = False

    times: tuple[float, ...]
    states: Float[Tensor, "t b c h w"]
    predictions: Float[Tensor, "t b c h w"]

    @property
    def distances(self) -> Float[Tensor, " t"]:
        """Mean absolute difference between each prediction and the last one."""
        return (self.predictions - self.predictions[-1]).abs().flatten(1).mean(1)

    def numbers(self) -> dict[str, Any]:
        distances = self.distances
        halfway = (distances <= 0.5 * distances[0]).nonzero()[0, 0]
        return {
            "prediction halfway to the sample at t": self.times[int(halfway)],
            "times": list(self.times),
            "distance of the prediction to the sample": distances.tolist(),
        }

    def figure(self) -> "Figure":
        steps = torch.linspace(0, len(self.times) - 1, min(_STRIP_TIMES, len(self.times)))
        chosen = steps.round().long()
        rows = min(_STRIP_ROWS, self.states.shape[1])
        pairs = torch.stack([self.states[chosen], self.predictions[chosen]], dim=2)
        images = pairs[:, :rows].flatten(1, 2).transpose(0, 1)
        names = ["state", "prediction"] * rows
        return picture_figure(images, names, [f"t = {self.times[i]:.2g}" for i in chosen])

    def animation(self) -> tuple[list[Image.Image], list[int]]:
        """A frame per step with the predictions for all samples, and durations in milliseconds."""
        count = self.predictions.shape[1]
        columns = min(_GIF_COLUMNS, count)
        full_rows = self.predictions[:, : count // columns * columns]
        scale = max(1, _GIF_SIDE // max(full_rows.shape[3:]))
        grids = full_rows.unflatten(1, (-1, columns))
        frames = [Image.fromarray(tile(grid, scale)) for grid in grids]
        return frames, [_FRAME] * (len(frames) - 1) + [_LAST_FRAME]


def follow(
    times: list[float],
    states: list[Float[Tensor, "b k c"]],
    predict: Callable[[Tensor, Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
) -> Trajectory:
    """Decode each state and the prediction made from it; at t = 1 the state is the prediction."""
    predicted = [
        state if t >= 1.0 else predict(state, state.new_full((len(state),), t))
        for t, state in zip(times, states, strict=True)
    ]
    return Trajectory(
        tuple(times),
        torch.stack([decode(state).cpu() for state in states]),
        torch.stack([decode(state).cpu() for state in predicted]),
    )

"""Distances of samples to the nearest training images, to detect copies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openunite.analysis.base import Analysis
from openunite.drawing.figures import picture_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COPY_RATIO = 1 / 3
_SHOWN = 10


@dataclass(frozen=True)
class Nearest:
    """Root mean square distances of each query to its two nearest images, and their indices."""

    distances: Float[Tensor, "n 2"]
    indices: Int[Tensor, "n 2"]

    @property
    def copies(self) -> float:
        """Fraction of queries that are three times closer to one image than to any other.

        Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize", 2023.
        """
        first, second = self.distances.unbind(1)
        return float((first < COPY_RATIO * second).double().mean())


@dataclass(frozen=True)
class Memorization(Analysis):
    """Distances of samples and of reconstructed held-out images to training images.

    Samples are compared with reconstructions because both are equally smooth. `shown` holds the
    samples nearest to training images, and those images: (2, n, C, H, W).
    """

    name: ClassVar[str] = "memorization"
    title: ClassVar[str] = "Nearest training images of samples"
    reading: ClassVar[str] = (
        "The samples that come closest to training images, above those images: similar images are "
        "fine, copies are not. If samples are about as far from the training set as "
        "reconstructions of held-out images are (5 % of them below the 5 % quantile), there is no "
        "sign of memorization."
    )
    chart: ClassVar[bool] = False

    samples: Nearest
    held_out: Nearest
    num_train: int
    shown: Float[Tensor, "2 n c h w"]

    def numbers(self) -> dict[str, Any]:
        own, other = self.samples.distances[:, 0], self.held_out.distances[:, 0]
        return {
            "samples copied (nearest < 1/3 of second)": self.samples.copies,
            "held-out copied, by the same rule": self.held_out.copies,
            "samples below the held-out 5 % quantile": float(
                (own < other.quantile(0.05)).double().mean()
            ),
            "median distance of samples (RMS)": float(own.median()),
            "median distance of held-out images (RMS)": float(other.median()),
            "samples": len(own),
            "training images searched": self.num_train,
        }

    def figure(self) -> "Figure":
        order = self.samples.distances[:, 0].sort().values
        names = [f"{distance:.3f}" for distance in order[: self.shown.shape[1]].tolist()]
        return picture_figure(self.shown, ["sample", "training image"], names)


def search(queries: Float[Tensor, "n ..."], training: Iterable[Float[Tensor, "b ..."]]) -> Nearest:
    """The two nearest training images of each query; training images are read block by block."""
    flat = queries.flatten(1).float()
    infinite = torch.full((len(flat), 2), torch.inf)
    best = Nearest(infinite, torch.zeros_like(infinite, dtype=torch.int64))
    start = 0
    for block in training:
        found = torch.cdist(flat, block.flatten(1).float()) / flat.shape[1] ** 0.5
        places = torch.arange(start, start + len(block)).expand(len(flat), -1)
        distances = torch.cat([best.distances, found], dim=1)
        indices = torch.cat([best.indices, places], dim=1)
        values, order = distances.topk(2, dim=1, largest=False)
        best = Nearest(values, indices.gather(1, order))
        start += len(block)
    return best

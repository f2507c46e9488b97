"""Statistics of latents: their spread, their effective rank, and how Gaussian they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.analysis.base import Analysis
from openunite.drawing.figures import BLUE, ORANGE, panels
from openunite.training.collapse import rank_of_variances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 80
_RANGE = 4.0  # the histograms run from -4 to 4


@dataclass(frozen=True)
class LatentStatistics(Analysis):
    """Statistics of latents (N, K, C). Per-channel numbers (C,) pool samples and registers."""

    name: ClassVar[str] = "latent_statistics"
    title: ClassVar[str] = "Statistics of the latents"
    reading: ClassVar[str] = (
        "A spread far from 0 means that data have different latents (0 is collapse), and the "
        "effective rank tells how many of the available directions they use; channels whose "
        "histograms follow the dashed normal curve (skewness and excess kurtosis 0) are the "
        "easiest to reach from noise."
    )

    num_samples: int
    spread: float
    effective_rank: float
    variances: Float[Tensor, " d"]
    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    skewness: Float[Tensor, " c"]
    kurtosis: Float[Tensor, " c"]
    distance: Float[Tensor, " c"]
    histograms: Float[Tensor, "c bins"]

    def numbers(self) -> dict[str, Any]:
        lists = ("mean", "std", "skewness", "kurtosis", "distance", "histograms")
        return {
            "spread over data": self.spread,
            "effective rank": self.effective_rank,
            "available directions": len(self.variances),
            "mean |skewness| of a channel": float(self.skewness.abs().mean()),
            "mean |excess kurtosis| of a channel": float(self.kurtosis.abs().mean()),
            "mean distance to a Gaussian (W1, in std)": float(self.distance.mean()),
            "data points": self.num_samples,
            **{name: getattr(self, name).tolist() for name in lists},
        }

    def figure(self) -> "Figure":
        figure, (values, spectrum) = panels(2)
        edges = torch.linspace(-_RANGE, _RANGE, _BINS + 1)
        centers = (edges[1:] + edges[:-1]) / 2
        for row in self.histograms:
            values.plot(centers, row, color=BLUE, alpha=0.35, linewidth=1.0)
        normal = torch.exp(-(centers**2) / 2) / (2 * torch.pi) ** 0.5
        values.plot(centers, normal, color="black", linestyle="--", linewidth=1.2)
        values.set_title(f"values of the {len(self.histograms)} channels", fontsize=11)
        values.set_ylim(0.0, 1.6)  # the peaks of narrower channels are cut off
        values.set_xlabel("value")
        values.set_ylabel("density")
        fractions = self.variances.cumsum(0) / self.variances.sum().clamp_min(1e-12)
        spectrum.plot(range(1, len(fractions) + 1), fractions, color=ORANGE)
        spectrum.axvline(self.effective_rank, color=ORANGE, linestyle=":", linewidth=1.2)
        spectrum.text(self.effective_rank, 0.03, "  effective rank", color=ORANGE, fontsize=8)
        spectrum.set_title("variance in the leading directions", fontsize=11)
        spectrum.set_xlabel("number of directions")
        spectrum.set_ylim(0.0, 1.04)
        return figure


def latent_statistics(latents: Float[Tensor, "n k c"]) -> LatentStatistics:
    """Statistics of latents (N, K, C). Raises ValueError for fewer than two samples."""
    if len(latents) < 2:
        raise ValueError(f"expected the latents of at least 2 data points, got {len(latents)}")
    latents = latents.cpu().double()
    channels = latents.flatten(0, 1).T
    mean, std = channels.mean(1), channels.std(1, correction=0)
    unit = (channels - mean[:, None]) / std.clamp_min(1e-12)[:, None]
    histograms = torch.stack([torch.histc(row, _BINS, -_RANGE, _RANGE) for row in channels])
    variances = principal_variances(latents.flatten(1))
    return LatentStatistics(
        num_samples=len(latents),
        spread=float(latents.std(0, correction=0).mean()),
        effective_rank=rank_of_variances(variances),
        variances=variances,
        mean=mean,
        std=std,
        skewness=unit.pow(3).mean(1),
        kurtosis=unit.pow(4).mean(1) - 3.0,
        distance=gaussian_distance(unit),
        histograms=histograms * (_BINS / (2 * _RANGE) / channels.shape[1]),
    )


def principal_variances(samples: Float[Tensor, "n d"]) -> Float[Tensor, " min(n,d)"]:
    """Variances along the principal axes, largest first."""
    centered = samples - samples.mean(0)
    return torch.linalg.svdvals(centered).square() / max(1, len(samples) - 1)


def gaussian_distance(unit: Float[Tensor, "c n"]) -> Float[Tensor, " c"]:
    """Wasserstein-1 distance of each row to N(0, 1), from quantiles; 0.02 is not visible."""
    count = unit.shape[1]
    ranks = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return (unit.sort(dim=1).values - torch.special.ndtri(ranks)).abs().mean(1)

"""Comparison of the tokenizing and the denoising pass, layer by layer."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.analysis.base import Analysis
from openunite.analysis.similarity import cknna, hsic_terms, ratio
from openunite.drawing.figures import BLUE, GRAY, ORANGE, panels, shades
from openunite.flow.path import interpolate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
LATENTS = "latents"  # name of the last activation: the normalized latents

_WORDS = {"prenorm": "before norm"}

Activations = Mapping[str, Tensor]  # in order of depth, each (B, K, width)
Tokenize = Callable[[Tensor], Activations]  # data (B, ...)
Denoise = Callable[[Tensor, Tensor], Activations]  # z_t (B, K, C), t (B,)


@dataclass(frozen=True)
class LayerSimilarity(Analysis):
    """CKA and CKNNA (T, L) of the two passes; the K registers of a sample are one activation."""

    name: ClassVar[str] = "layer_similarity"
    title: ClassVar[str] = "Tokenizing and denoising, layer by layer"
    reading: ClassVar[str] = (
        "1 means that both passes compute the same up to a rotation, 0 that they have nothing in "
        "common. Both scores should rise with t, because more of the image is visible; at t = 0 "
        "the denoising pass has seen no image, so a score of 0 is correct."
    )

    layers: tuple[str, ...]
    times: tuple[float, ...]
    cka: Float[Tensor, "t l"]
    cknna: Float[Tensor, "t l"]

    def numbers(self) -> dict[str, Any]:
        middle = len(self.times) // 2
        return {
            f"CKA at t = {self.times[middle]:g}, first layer": float(self.cka[middle, 0]),
            f"CKA at t = {self.times[middle]:g}, latents": float(self.cka[middle, -1]),
            f"CKNNA at t = {self.times[middle]:g}, latents": float(self.cknna[middle, -1]),
            "layers": list(self.layers),
            "times": list(self.times),
            "cka": self.cka.tolist(),
            "cknna": self.cknna.tolist(),
        }

    def figure(self) -> "Figure":
        figure, axes = panels(2)
        colors = shades(len(self.times))
        for panel, values, label in zip(
            axes, (self.cka, self.cknna), ("CKA (debiased)", "CKNNA"), strict=True
        ):
            for t, row, color in zip(self.times, values, colors, strict=True):
                panel.plot(row, marker="o", markersize=3.5, color=color, label=f"t = {t:g}")
            panel.set_xticks(range(len(self.layers)), self.layers, fontsize=8, rotation=30)
            panel.set_title(label, fontsize=11)
            panel.set_ylim(-0.08, 1.04)
        axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


@dataclass(frozen=True)
class LatentAgreement(Analysis):
    """Cosine similarity (T,) of denoised and tokenized latents, averaged over registers.

    `chance` (T,) is the cosine similarity between latents of different images.
    """

    name: ClassVar[str] = "latent_agreement"
    title: ClassVar[str] = "Denoised against tokenized latents"
    reading: ClassVar[str] = (
        "How closely denoising recovers the latents that noise was added to: the curve should "
        "start at the gray level of chance (latents of another image) and approach 1 well before "
        "t = 1."
    )

    times: tuple[float, ...]
    cosine: Float[Tensor, " t"]
    chance: Float[Tensor, " t"]

    def numbers(self) -> dict[str, Any]:
        middle = len(self.times) // 2
        return {
            f"cosine at t = {self.times[middle]:g}": float(self.cosine[middle]),
            f"between images at t = {self.times[middle]:g}": float(self.chance[middle]),
            "times": list(self.times),
            "cosine": self.cosine.tolist(),
            "chance": self.chance.tolist(),
        }

    def figure(self) -> "Figure":
        figure, (panel,) = panels(1, width=5.5, height=3.2)
        panel.plot(self.times, self.cosine, marker="o", color=BLUE, label="same image")
        panel.plot(self.times, self.chance, marker="o", color=GRAY, label="another image")
        panel.set_xlabel("t (0 noise, 1 data)")
        panel.set_ylabel("cosine")
        panel.set_ylim(top=1.04)
        panel.legend(fontsize=9, frameon=False)
        return figure


@dataclass(frozen=True)
class ResidualNorms(Analysis):
    """Root mean square of the registers after each block: tokenizing (L,), denoising (T, L)."""

    name: ClassVar[str] = "residual_norms"
    title: ClassVar[str] = "Residual norms of the two passes"
    reading: ClassVar[str] = (
        "Both passes share one residual stream, so their norms should stay close. A ratio near 1 "
        "at every layer is healthy; a ratio that grows with depth means that the passes have "
        "diverged (as they do without the norm after each block)."
    )

    layers: tuple[str, ...]
    times: tuple[float, ...]
    tokenizing: Float[Tensor, " l"]
    denoising: Float[Tensor, "t l"]

    @property
    def norm_ratio(self) -> Float[Tensor, "t l"]:
        """Norms of denoising divided by those of tokenizing."""
        return self.denoising / self.tokenizing.clamp_min(1e-12)

    def numbers(self) -> dict[str, Any]:
        farthest = self.norm_ratio.clamp_min(1e-12).log().abs().flatten().tolist()
        return {
            "largest ratio of norms": math.exp(max(farthest, default=math.nan)),
            "layers": list(self.layers),
            "times": list(self.times),
            "tokenizing": self.tokenizing.tolist(),
            "denoising": self.denoising.tolist(),
        }

    def figure(self) -> "Figure":
        figure, (sizes, ratios) = panels(2)
        sizes.plot(self.tokenizing, marker="s", color=ORANGE, label="tokenizing", zorder=3)
        for t, row, norm_ratio, color in zip(
            self.times, self.denoising, self.norm_ratio, shades(len(self.times)), strict=True
        ):
            sizes.plot(row, marker="o", markersize=3.5, color=color)
            label = f"denoising, t = {t:g}"
            ratios.plot(norm_ratio, marker="o", markersize=3.5, color=color, label=label)
        ratios.axhline(1.0, color=ORANGE, linewidth=1.2)
        sizes.set_title("root mean square", fontsize=11)
        sizes.set_ylim(bottom=0.0)
        ratios.set_title("denoising / tokenizing", fontsize=11)
        low, high = ratios.get_ylim()
        ratios.set_ylim(min(low, 0.8), max(high, 1.25))  # so that a difference of 1 % looks small
        for panel in (sizes, ratios):
            panel.set_xticks(range(len(self.layers)), self.layers, fontsize=8, rotation=30)
        sizes.legend(fontsize=8, frameon=False)
        ratios.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return figure


class PassComparison(NamedTuple):
    """The three analyses that `compare_passes` computes in one pass over the data."""

    similarity: LayerSimilarity
    agreement: LatentAgreement
    norms: ResidualNorms


def compare_passes(
    batches: Iterable[tuple[Tensor, Float[Tensor, "b k c"]]],
    tokenize: Tokenize,
    denoise: Denoise,
    times: Sequence[float] = TIMES,
    neighbors: int = 10,
) -> PassComparison:
    """Tokenize each batch of (data, eps), and denoise z_t = t z0 + (1 - t) eps at several t.

    Only one batch is in memory at a time. CKA sums HSIC over the batches; the other numbers are
    means over batches, weighted by size. Batches of at most `neighbors` samples are left out.
    Raises ValueError if no batch is left.
    """
    totals: dict[str, Tensor] = {}
    layers: tuple[str, ...] = ()
    seen = 0
    for data, noise in batches:
        if len(data) <= max(neighbors, 4):
            continue
        tokenized = tokenize(data)
        layers, seen = tuple(tokenized), seen + len(data)
        passes = [_denoise(tokenized, noise, t, denoise) for t in times]
        rows = [_compare(tokenized, denoised, neighbors) for denoised in passes]
        for key in rows[0]:
            weight = 1.0 if key == "hsic" else float(len(data))
            totals[key] = totals.get(key, 0.0) + weight * torch.stack([row[key] for row in rows])
    if not seen:
        raise ValueError(
            f"expected a batch of more than {max(neighbors, 4)} samples, got none; use more images"
        )
    means = {key: value / seen for key, value in totals.items() if key != "hsic"}
    names = tuple(_WORDS.get(layer, layer.replace("block.", "block ")) for layer in layers)
    depth = sum(layer.startswith("block.") for layer in layers)
    shown = tuple(times)
    return PassComparison(
        LayerSimilarity(names, shown, ratio(totals["hsic"]), means["cknna"]),
        LatentAgreement(shown, means["cosine"], means["chance"]),
        ResidualNorms(
            names[:depth], shown, means["tokenizing"][0, :depth], means["denoising"][:, :depth]
        ),
    )


def _denoise(tokenized: Activations, noise: Tensor, t: float, denoise: Denoise) -> Activations:
    time = noise.new_full((len(noise),), t)
    return denoise(interpolate(tokenized[LATENTS], noise, time), time)


def _compare(first: Activations, second: Activations, neighbors: int) -> dict[str, Tensor]:
    """The quantities of one batch at one t that `compare_passes` sums over batches."""
    pairs = [(first[name].float().cpu(), second[name].float().cpu()) for name in first]
    flat = [(a.flatten(1), b.flatten(1)) for a, b in pairs]
    z0, denoised = pairs[-1]
    cosine = torch.nn.functional.cosine_similarity
    return {
        "hsic": torch.stack([hsic_terms(a, b) for a, b in flat]),
        "cknna": torch.tensor([cknna(a, b, neighbors) for a, b in flat]),
        "cosine": cosine(z0, denoised, dim=-1).mean(),
        "chance": cosine(z0, denoised.roll(1, 0), dim=-1).mean(),
        "tokenizing": torch.stack([a.square().mean().sqrt() for a, _ in pairs]),
        "denoising": torch.stack([b.square().mean().sqrt() for _, b in pairs]),
    }

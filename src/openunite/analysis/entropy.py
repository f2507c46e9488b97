"""Entropy of the weights in bits, for norms and functions separately."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from openunite.analysis.base import Analysis
from openunite.drawing.figures import BLUE, GRAY, ORANGE, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 256
GROUPS = ("norms", "functions", "rest")

Weights = Mapping[str, Tensor]  # parameters by name


@dataclass(frozen=True)
class WeightEntropy(Analysis):
    """Entropy `bits[model][group]`, summed over `counts[model][group]` weights."""

    name: ClassVar[str] = "weight_entropy"
    title: ClassVar[str] = "Entropy of the weights"
    reading: ClassVar[str] = (
        "Bits per weight of each tensor's histogram (256 equal bins from its smallest to its "
        "largest value, so the scale does not matter). Training that concentrates weights lowers "
        "the entropy of the functions (attention, MLP). The norms (norms, adaLN) start constant, "
        "with entropy 0; their entropy rises when the network uses them to tell the two passes "
        "apart."
    )

    bits: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]

    def megabytes(self, model: str, group: str) -> float:
        """Entropy in megabytes (10^6 bytes)."""
        return self.bits[model][group] / 8e6

    def numbers(self) -> dict[str, Any]:
        flat = {
            f"{model}: {group}, bits per weight": bits / max(1, self.counts[model][group])
            for model, groups in self.bits.items()
            for group, bits in groups.items()
        }
        table = {
            model: {
                group: {"megabytes": self.megabytes(model, group), "weights": count}
                for group, count in groups.items()
            }
            for model, groups in self.counts.items()
        }
        return {**flat, "models": table, "estimator": {"histogram bins": BINS}}

    def figure(self) -> "Figure":
        figure, (total, each) = panels(2, height=1.6 + 0.45 * len(self.bits))
        models = list(self.bits)
        left = [0.0] * len(models)
        for i, (group, color) in enumerate(zip(GROUPS, (ORANGE, BLUE, GRAY), strict=True)):
            sizes = [self.megabytes(model, group) for model in models]
            total.barh(models, sizes, left=left, color=color, label=group, height=0.6)
            left = [a + b for a, b in zip(left, sizes, strict=True)]
            rates = [self.bits[m][group] / max(1, self.counts[m][group]) for m in models]
            places = [j + 0.25 * (i - 1) for j in range(len(models))]
            each.barh(places, rates, color=color, height=0.22)
        total.set_xlabel("entropy in MB")
        each.set_xlabel("bits per weight")
        each.set_yticks(range(len(models)), [""] * len(models))
        for panel in (total, each):
            panel.invert_yaxis()
            panel.grid(axis="y", visible=False)
        total.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        return figure


def weight_entropy(models: Mapping[str, Weights]) -> WeightEntropy:
    """Entropy of the parameters of each model, by group."""
    bits = {name: dict.fromkeys(GROUPS, 0.0) for name in models}
    counts = {name: dict.fromkeys(GROUPS, 0) for name in models}
    for model, weights in models.items():
        for name, weight in weights.items():
            group = group_of(name)
            bits[model][group] += entropy_bits(weight) * weight.numel()
            counts[model][group] += weight.numel()
    return WeightEntropy(bits, counts)


def entropy_bits(weight: Tensor, bins: int = BINS) -> float:
    """Entropy in bits per weight, estimated from a histogram over the range of the values.

    It is at most log2 of the number of bins or of weights, whichever is less; 0 for a constant.
    """
    values = weight.detach().cpu().double().flatten()
    if not len(values):
        return 0.0
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return 0.0
    fractions = torch.histc(values, bins, low, high) / len(values)
    return float(torch.special.entr(fractions).sum()) / math.log(2.0)


def group_of(name: str) -> str:
    """The group of a parameter: "norms" (with adaLN), "functions" (attention, MLP) or "rest"."""
    parts = name.split(".")
    if any("norm" in part or part.startswith("modulation") for part in parts):
        return "norms"
    return "functions" if {"attention", "mlp"} & set(parts) else "rest"

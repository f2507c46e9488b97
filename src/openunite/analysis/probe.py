"""Linear probes and nearest neighbors: the class information in latents and in raw pixels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from openunite.analysis.base import Analysis
from openunite.drawing.figures import BLUE, GRAY, ORANGE, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEIGHBORS = 10
DECAY = 1e-2


@dataclass(frozen=True)
class Split:
    """Features of training and test samples with their labels."""

    train: Float[Tensor, "n d"]
    train_labels: Int[Tensor, " n"]
    test: Float[Tensor, "m d"]
    test_labels: Int[Tensor, " m"]


@dataclass(frozen=True)
class Probe(Analysis):
    """Test accuracies of both classifiers by feature set, and for each register alone (K,)."""

    name: ClassVar[str] = "probe"
    title: ClassVar[str] = "What the latents know about the class"
    reading: ClassVar[str] = (
        "Accuracy of a linear classifier and of 10 nearest neighbors on held-out images. Latents "
        "that beat raw pixels are organized by class, although tokenizing sees no label. The "
        "dashed line is the accuracy of always guessing the most frequent class."
    )

    linear: dict[str, float]
    nearest: dict[str, float]
    register_linear: Float[Tensor, " k"]
    register_nearest: Float[Tensor, " k"]
    chance: float
    num_train: int
    num_test: int

    def numbers(self) -> dict[str, Any]:
        return {
            **{f"linear probe, {name}": value for name, value in self.linear.items()},
            **{f"10 nearest, {name}": value for name, value in self.nearest.items()},
            "linear probe, best register": float(self.register_linear.max()),
            "linear probe, worst register": float(self.register_linear.min()),
            "most frequent class": self.chance,
            "training images": self.num_train,
            "held-out images": self.num_test,
            "register_linear": self.register_linear.tolist(),
            "register_nearest": self.register_nearest.tolist(),
        }

    def figure(self) -> "Figure":
        figure, (sets, registers) = panels(2)
        for offset, values, color, label in (
            (-0.2, self.linear, BLUE, "linear probe"),
            (0.2, self.nearest, ORANGE, f"{NEIGHBORS} nearest"),
        ):
            places = [i + offset for i in range(len(values))]
            bars = sets.bar(places, list(values.values()), 0.38, color=color, label=label)
            sets.bar_label(bars, fmt="%.2f", fontsize=8)
        sets.set_xticks(range(len(self.linear)), list(self.linear), fontsize=9)
        sets.grid(axis="x", visible=False)
        registers.plot(self.register_linear, marker="o", markersize=3.5, color=BLUE)
        registers.plot(self.register_nearest, marker="o", markersize=3.5, color=ORANGE)
        registers.set_xlabel("register")
        registers.set_title("each register alone", fontsize=11)
        for panel in (sets, registers):
            panel.set_ylim(0.0, 1.05)
            panel.axhline(self.chance, color=GRAY, linestyle="--", linewidth=1.0)
        sets.legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
        return figure


def probe_latents(
    latents: tuple[Float[Tensor, "n k c"], Float[Tensor, "m k c"]],
    pixels: tuple[Float[Tensor, "n ..."], Float[Tensor, "m ..."]],
    labels: tuple[Int[Tensor, " n"], Int[Tensor, " m"]],
) -> Probe:
    """Probe latents, their mean over registers, each register and pixels; pairs: (train, test)."""
    sets = {
        "pixels": (pixels[0].flatten(1), pixels[1].flatten(1)),
        "latents": (latents[0].flatten(1), latents[1].flatten(1)),
        "pooled": (latents[0].mean(1), latents[1].mean(1)),
    }
    full = {name: Split(a, labels[0], b, labels[1]) for name, (a, b) in sets.items()}
    registers = [
        Split(latents[0][:, i], labels[0], latents[1][:, i], labels[1])
        for i in range(latents[0].shape[1])
    ]
    return Probe(
        linear={name: linear_probe(split) for name, split in full.items()},
        nearest={name: nearest_neighbors(split) for name, split in full.items()},
        register_linear=torch.tensor([linear_probe(split) for split in registers]),
        register_nearest=torch.tensor([nearest_neighbors(split) for split in registers]),
        chance=float((labels[1] == labels[0].mode().values).double().mean()),
        num_train=len(labels[0]),
        num_test=len(labels[1]),
    )


def linear_probe(split: Split, decay: float = DECAY) -> float:
    """Test accuracy of multinomial logistic regression on standardized features.

    Minimizes mean cross-entropy + decay / 2 |W|^2 with L-BFGS; the bias is not decayed.
    """
    scaled = _standardized(split)
    classes = int(scaled.train_labels.max()) + 1
    weight = torch.zeros(classes, scaled.train.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=100, tolerance_grad=1e-4, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        solver.zero_grad()
        logits = nn.functional.linear(scaled.train, weight, bias)
        loss = nn.functional.cross_entropy(logits, scaled.train_labels)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        return float(loss.detach())

    solver.step(closure)
    with torch.no_grad():
        found = nn.functional.linear(scaled.test, weight, bias).argmax(1)
    return _accuracy(found, split.test_labels)


def nearest_neighbors(split: Split, neighbors: int = NEIGHBORS) -> float:
    """Test accuracy of a vote of the nearest training samples (Euclidean); ties: lowest class."""
    distances = torch.cdist(split.test.float(), split.train.float())
    nearest = distances.topk(min(neighbors, len(split.train)), largest=False).indices
    votes = nn.functional.one_hot(split.train_labels[nearest]).sum(1)
    return _accuracy(votes.argmax(1), split.test_labels)


def _standardized(split: Split) -> Split:
    """Features with mean 0 and std 1 over the training samples; constant ones become 0."""
    mean, std = split.train.float().mean(0), split.train.float().std(0)
    scale = torch.where(std > 1e-6, 1.0 / std.clamp_min(1e-6), 0.0)
    train, test = ((x.float() - mean) * scale for x in (split.train, split.test))
    return Split(train, split.train_labels, test, split.test_labels)


def _accuracy(found: Tensor, labels: Tensor) -> float:
    return float((found == labels).double().mean())

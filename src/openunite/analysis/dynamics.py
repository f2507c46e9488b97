"""Both losses over the course of training, and the phases of training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from openunite.analysis.base import Analysis
from openunite.drawing.figures import BLUE, GREEN, ORANGE, panels, running_mean
from openunite.training.collapse import MIN_SPREAD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TAIL = 0.1  # the numbers of a phase are means over its last tenth

Row = Mapping[str, float]


@dataclass(frozen=True)
class Phase:
    """Optimizer steps `first` to `last`, with losses and latent spread at their end."""

    name: str
    first: int
    last: int
    reconstruction: float
    flow: float
    spread: float


@dataclass(frozen=True)
class Dynamics(Analysis):
    """Losses by step, and the phases of the training."""

    name: ClassVar[str] = "dynamics"
    title: ClassVar[str] = "Course of training"
    reading: ClassVar[str] = (
        "The reconstruction loss should fall throughout, while the flow loss rises as latents gain "
        "content and then levels off or falls slowly. If the flow loss falls to 0 early, together "
        "with the latent spread, the latents have collapsed."
    )

    steps: tuple[int, ...]
    reconstruction: tuple[float, ...]
    flow: tuple[float, ...]
    phases: tuple[Phase, ...]

    @property
    def verdict(self) -> str:
        """ "collapsed" if the latent spread at the end is below `MIN_SPREAD`, else "healthy"."""
        return "collapsed" if self.phases[-1].spread < MIN_SPREAD else "healthy"

    def numbers(self) -> dict[str, Any]:
        last = self.phases[-1]
        return {
            "verdict": self.verdict,
            "reconstruction loss at the end": last.reconstruction,
            "flow loss at the end": last.flow,
            "flow loss after the first phase": self.phases[0].flow,
            "latent spread at the end": last.spread,
            "phases": [asdict(phase) for phase in self.phases],
        }

    def figure(self) -> "Figure":
        figure, axes = panels(2, height=3.6)
        for panel, values, color, label in (
            (axes[0], self.reconstruction, BLUE, "reconstruction loss"),
            (axes[1], self.flow, ORANGE, "flow loss"),
        ):
            panel.plot(self.steps, values, color=color, alpha=0.2, linewidth=0.8)
            panel.plot(self.steps, running_mean(values), color=color, linewidth=1.8)
            panel.set_title(label, fontsize=11, pad=20)
            panel.set_xlabel("optimizer step")
            panel.margins(x=0.01)
            self._name_phases(panel)
        if min(self.reconstruction) > 0.0:
            axes[0].set_yscale("log")
        axes[1].set_ylim(bottom=0.0)
        return figure

    def _name_phases(self, panel: "Axes") -> None:
        span = self.steps[-1] - self.steps[0] or 1
        for i, phase in enumerate(self.phases):
            panel.axvspan(phase.first, phase.last, color=GREEN, alpha=0.07 * (i % 2), linewidth=0)
            if phase.last - phase.first > 0.12 * span:
                middle = (phase.first + phase.last) / 2
                panel.annotate(
                    phase.name,
                    (middle, 1.02),
                    xycoords=("data", "axes fraction"),
                    ha="center",
                    fontsize=7.5,
                    color="0.35",
                )


def training_dynamics(rows: Sequence[Row]) -> Dynamics:
    """The course of training from the rows of a metrics.jsonl, ordered by step.

    Phases: `warm-up` while the learning rate rises, `reconstruction leads` while the flow weight
    rises, `both` at full flow weight, `settling` once the learning rate is below half its peak.
    Raises ValueError if no losses are logged.
    """
    kept = [row for row in rows if "loss_reconstruction" in row and "loss_flow" in row]
    if not kept:
        raise ValueError(
            "expected both losses in metrics.jsonl, got none; train the run again with this version"
        )
    names = _phase_names(kept)
    bounds = [0, *(i for i in range(1, len(kept)) if names[i] != names[i - 1]), len(kept)]
    phases = [_phase(names[start], kept[start:stop]) for start, stop in pairwise(bounds)]
    return Dynamics(
        tuple(int(row["step"]) for row in kept),
        tuple(float(row["loss_reconstruction"]) for row in kept),
        tuple(float(row["loss_flow"]) for row in kept),
        tuple(phases),
    )


def _phase_names(rows: Sequence[Row]) -> list[str]:
    rates = np.array([row.get("learning_rate", 1.0) for row in rows])
    weights = np.array([row.get("flow_weight", 1.0) for row in rows])
    peak = int(rates.argmax())
    names = []
    for i in range(len(rows)):
        if i < peak:
            names.append("warm-up")
        elif weights[i] < weights[-1] * (1.0 - 1e-6):
            names.append("reconstruction leads")
        else:
            names.append("both" if rates[i] > rates[peak] / 2 else "settling")
    return names


def _phase(name: str, rows: Sequence[Row]) -> Phase:
    tail = rows[-max(1, round(_TAIL * len(rows))) :]

    def mean(key: str) -> float:
        return float(np.mean([row.get(key, np.nan) for row in tail]))

    return Phase(
        name,
        int(rows[0]["step"]),
        int(rows[-1]["step"]),
        mean("loss_reconstruction"),
        mean("loss_flow"),
        mean("latent_spread"),
    )

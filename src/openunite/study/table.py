"""The ablation table: means and spreads over seeds beside the paper, and whether a direction holds.

Rule: a difference to the default counts when it exceeds three of its standard errors,
sqrt(s^2 / n + s_default^2 / n_default); with three seeds that is about 95 % (Student's t has 2 to 4
degrees of freedom: 2.8 to 4.3). What does not exceed it is undecided, whatever its sign.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from openunite.evaluation.card import ProtocolCard

STANDARD_ERRORS = 3.0
# Column, its metric, whether smaller is better; where the metric was not taken, no column.
COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("FD", "fd_samples", True),
    ("FD guided", "fd_samples_guided", True),
    ("rFD", "fd_recon", True),
    ("PSNR (dB)", "recon_psnr_db", False),
    ("accuracy", "sample_accuracy", False),
    ("accuracy guided", "sample_accuracy_guided", False),
    ("parameters", "parameters", True),
    ("training (s)", "train_seconds", True),
)
JUDGED = ("fd_samples", "fd_samples_guided", "fd_recon")


@dataclass(frozen=True)
class Row:
    """All seeds of one variant. `paper` is -1, 0 or 1 for generation and for reconstruction: where
    its metric stands to the default's in the paper (1: larger, that is worse)."""

    name: str
    axis: str
    paper_numbers: str
    paper: tuple[int, int]
    metrics: dict[str, list[float]] = field(default_factory=dict)  # of the seeds that finished
    collapsed: int = 0
    steps: str = ""  # optimizer steps of each run, "2 x 520" for two stages


def verdict(row: Row, default: Row, metric: str) -> str:
    """Whether the paper's direction holds for one metric of which smaller is better.

    "holds", "does not hold", "undecided" with the difference and its standard error; where the
    paper has no direction, "larger" or "smaller". More than half of the seeds collapsed: larger.
    """
    direction = row.paper[1] if metric == "fd_recon" else row.paper[0]
    values, reference = row.metrics.get(metric, []), default.metrics.get(metric, [])
    if row.collapsed > len(values):
        return _say(1, direction) + ": collapsed"
    if len(values) < 2 or len(reference) < 2:
        return "undecided: too few seeds"
    difference = mean(values) - mean(reference)
    error = math.hypot(stdev(values) / len(values) ** 0.5, stdev(reference) / len(reference) ** 0.5)
    shown = f"{difference:+.2g} +- {error:.2g}"
    if error == 0.0 or abs(difference) <= STANDARD_ERRORS * error:  # no spread: the same run twice
        return f"undecided: {shown}"
    return f"{_say(1 if difference > 0 else -1, direction)}: {shown}"


def _say(found: int, direction: int) -> str:
    if direction == 0:
        return "larger" if found > 0 else "smaller"
    return "holds" if found == direction else "does not hold"


def markdown(rows: Sequence[Row], note: str = "") -> str:
    """The table, then the verdicts, then a note. The first row is the default."""
    columns = [c for c in COLUMNS if any(c[1] in row.metrics for row in rows)]
    head = ["variant", *(title for title, *_ in columns), "steps", "collapsed"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [_spread(row.metrics.get(metric, [])) for _, metric, _ in columns]
        seeds = row.collapsed + max(map(len, row.metrics.values()), default=0)
        lines.append(_line([row.name, *cells, row.steps, f"{row.collapsed} of {seeds}"]))
    judged = [(title, metric) for title, metric, _ in columns if metric in JUDGED]
    if len(rows) > 1 and judged:
        head = ["variant", "axis", "paper FID / rFID", *(title for title, _ in judged)]
        lines += ["", _line(head), _line(["---"] * len(head))]
        lines.append(_line(["default", "", rows[0].paper_numbers, *[""] * len(judged)]))
        for row in rows[1:]:
            said = [verdict(row, rows[0], metric) for _, metric in judged]
            lines.append(_line([row.name, row.axis, row.paper_numbers, *said]))
    lines += ["", note] if note else []
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What JSON keeps: every value, mean and deviation, and the verdicts."""
    result = []
    for row in rows:
        shown = {
            name: {"mean": mean(values), "deviation": stdev(values) if len(values) > 1 else None}
            for name, values in row.metrics.items()
        }
        verdicts = {m: verdict(row, rows[0], m) for m in JUDGED if m in rows[0].metrics}
        extra = {"summary": shown} | ({"verdicts": verdicts} if row is not rows[0] else {})
        result.append(asdict(row) | extra)
    return result


def draw(rows: Sequence[Row], out_png: Path) -> None:
    """One panel per judged metric: every seed a dot, the mean a bar, the default a line."""
    from matplotlib.figure import Figure  # with a canvas of its own; pyplot would keep state
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    judged = [c for c in COLUMNS if c[1] in JUDGED and any(c[1] in row.metrics for row in rows)]
    if not judged:
        return
    figure = Figure(figsize=(4.0 * len(judged) + 2.0, 0.4 * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(judged), sharey=True, squeeze=False)[0]
    for panel, (title, metric, _) in zip(panels, judged, strict=True):
        for height, row in enumerate(rows):
            values = row.metrics.get(metric, [])
            panel.plot(values, [height] * len(values), "o", color="tab:blue", alpha=0.6)
            if values:
                panel.plot([mean(values)], [height], "|", color="black", markersize=14)
        if rows[0].metrics.get(metric):
            panel.axvline(mean(rows[0].metrics[metric]), color="0.6", linestyle="--", linewidth=1)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_title(f"{title}: smaller is better", fontsize=11)
        panel.grid(color="0.9", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
    panels[0].invert_yaxis()
    figure.savefig(out_png, dpi=110)


def _label(row: Row) -> str:
    return f"{row.name} ({row.collapsed} collapsed)" if row.collapsed else row.name


def _spread(values: Sequence[float]) -> str:
    """Mean +- standard deviation over seeds."""
    if not values:
        return "-"
    if all(value == int(value) and value > 1000 for value in values):
        return f"{mean(values):,.0f}"
    middle = mean(values)
    digits = max(0, 2 - math.floor(math.log10(abs(middle)))) if middle else 2
    text = f"{middle:.{digits}f}"
    return text if len(values) < 2 else f"{text} +- {stdev(values):.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def distances(card: ProtocolCard) -> dict[str, float]:
    """What a protocol card has of `JUDGED`."""
    name = card.protocol["extractor"]["label"]
    places = (("unguided", name), ("guided", name), ("reconstructions", f"r{name}"))
    return {
        metric: card.metrics[column][row]
        for metric, (column, row) in zip(JUDGED, places, strict=True)
        if column in card.metrics
    }


def add(row: Row, metrics: Mapping[str, Any]) -> None:
    """One finished seed: its numbers join the row."""
    for _, metric, _ in COLUMNS:
        if isinstance(metrics.get(metric), int | float):
            row.metrics.setdefault(metric, []).append(float(metrics[metric]))

"""The ablation table: means and stds over seeds, and whether the paper's directions hold.

Rule: a difference from the default counts if it exceeds three of its standard errors,
sqrt(s^2 / n + s_default^2 / n_default); with three seeds that is about 95 % (Student's t has 2 to 4
degrees of freedom: 2.8 to 4.3). A smaller difference is undecided, whatever its sign.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from openunite.drawing.figures import panels
from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.images.table import flat_metrics

STANDARD_ERRORS = 3.0
# Title and name in metrics.json; a column without values is left out.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("FD", "fd_samples"),
    ("FD guided", "fd_samples_guided"),
    ("rFD", "fd_recon"),
    ("PSNR (dB)", "recon_psnr_db"),
    ("accuracy", "sample_accuracy"),
    ("accuracy guided", "sample_accuracy_guided"),
    ("parameters", "parameters"),
    ("training (s)", "train_seconds"),
)
WITH_VERDICT = ("fd_samples", "fd_samples_guided", "fd_recon")  # smaller is better for all of them


@dataclass(frozen=True)
class Row:
    """All seeds of one variant.

    `paper` is the paper's direction against the default for generation and for reconstruction:
    1 is a larger distance (worse), -1 a smaller one, 0 no direction.
    """

    name: str
    axis: str
    paper_numbers: str
    paper: tuple[int, int]
    metrics: dict[str, list[float]] = field(default_factory=dict)  # one value per finished seed
    collapsed: int = 0
    steps: str = ""  # optimizer steps of each run, "2 x 520" for two stages


def verdict(row: Row, default: Row, metric: str) -> str:
    """Whether the paper's direction holds for one distance.

    The result begins with "holds", "does not hold" or "undecided", or with "larger" or "smaller" if
    the paper gives no direction; the difference and its standard error follow. If more seeds
    collapsed than finished, the distance counts as larger.
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
    if error == 0.0 or abs(difference) <= STANDARD_ERRORS * error:  # 0: equal seeds
        return f"undecided: {shown}"
    return f"{_say(1 if difference > 0 else -1, direction)}: {shown}"


def _say(found: int, direction: int) -> str:
    if direction == 0:
        return "larger" if found > 0 else "smaller"
    return "holds" if found == direction else "does not hold"


def markdown(rows: Sequence[Row], note: str = "") -> str:
    """Markdown of the table, the verdicts and a note; the first row must be the default."""
    columns = [c for c in COLUMNS if any(c[1] in row.metrics for row in rows)]
    head = ["variant", *(title for title, _ in columns), "steps", "collapsed"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        cells = [_spread(row.metrics.get(metric, [])) for _, metric in columns]
        seeds = row.collapsed + max(map(len, row.metrics.values()), default=0)
        lines.append(_line([row.name, *cells, row.steps, f"{row.collapsed} of {seeds}"]))
    compared = [column for column in columns if column[1] in WITH_VERDICT]
    if len(rows) > 1 and compared:
        head = ["variant", "axis", "paper FID / rFID", *(title for title, _ in compared)]
        lines += ["", _line(head), _line(["---"] * len(head))]
        lines.append(_line(["default", "", rows[0].paper_numbers, *[""] * len(compared)]))
        for row in rows[1:]:
            said = [verdict(row, rows[0], metric) for _, metric in compared]
            lines.append(_line([row.name, row.axis, row.paper_numbers, *said]))
    lines += ["", note] if note else []
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for JSON, with every value, mean and std, and the verdicts."""
    result = []
    for row in rows:
        shown = {
            name: {"mean": mean(values), "std": stdev(values) if len(values) > 1 else None}
            for name, values in row.metrics.items()
        }
        verdicts = {m: verdict(row, rows[0], m) for m in WITH_VERDICT if m in rows[0].metrics}
        extra = {"summary": shown} | ({"verdicts": verdicts} if row is not rows[0] else {})
        result.append(asdict(row) | extra)
    return result


def draw(rows: Sequence[Row], out_png: Path) -> None:
    """Draw a panel per distance: seeds are dots, means are bars, and a line marks the default."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    compared = [
        c for c in COLUMNS if c[1] in WITH_VERDICT and any(c[1] in row.metrics for row in rows)
    ]
    if not compared:
        return
    size = 4.0 * len(compared) + 2.0, 0.4 * len(rows) + 1.2
    figure, axes = panels(len(compared), *size, sharey=True)
    for panel, (title, metric) in zip(axes, compared, strict=True):
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
    axes[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes[0].invert_yaxis()
    figure.savefig(out_png, dpi=110)


def _label(row: Row) -> str:
    return f"{row.name} ({row.collapsed} collapsed)" if row.collapsed else row.name


def _spread(values: Sequence[float]) -> str:
    """Mean +- std over seeds."""
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
    """The distances of a protocol card that get a verdict."""
    found = flat_metrics(card.metrics)
    return {name: found[name] for name in WITH_VERDICT if name in found}


def add(row: Row, metrics: Mapping[str, Any]) -> None:
    """Add the numbers of one finished seed to the row."""
    for _, metric in COLUMNS:
        if isinstance(metrics.get(metric), int | float):
            row.metrics.setdefault(metric, []).append(float(metrics[metric]))

"""`openunite analyze`: all analyses of a run, as figures and numbers."""

import math
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

import openunite
from openunite.analysis.base import Analyses, Found
from openunite.analysis.dynamics import Dynamics, training_dynamics
from openunite.analysis.entropy import WeightEntropy, weight_entropy
from openunite.analysis.trajectory import Trajectory
from openunite.commands import Analyze
from openunite.files import write_json
from openunite.pipelines.base import UnitePipeline
from openunite.progress import bar, say
from openunite.reporting.tables import by_reason
from openunite.runs import Run
from openunite.task import Analyzed, get_task
from openunite.training.build import build_models
from openunite.training.config import RunConfig
from openunite.verbs.inputs import open_pipeline

Entry = dict[str, Any]  # an entry of analysis.json


def analyze(
    source: str | Path | Run,
    *,
    num_images: int = 1000,
    compare: str | Path | None = None,
    output: str | Path | None = None,
) -> dict[str, Any]:
    """Analyze a run; return the contents of analysis.json, which is written next to the figures.

    `num_images` is the number of data points to use (at least 16), `compare` another run to compare
    with, and `output` the folder to write into (default RUN/analysis). Raises ValueError for fewer
    data points and FileNotFoundError if there is no such run.
    """
    run = source if isinstance(source, Run) else Run.of(source)
    if num_images < 16:
        raise ValueError(f"--num-images must be at least 16, got {num_images}")
    folder = Path(output or run.folder / "analysis")
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = open_pipeline(run)
    other = (Path(compare).name, open_pipeline(compare)) if compare else None
    found = _analyses(run, pipeline, other, num_images)
    entries: list[Entry] = []
    shown = bar(found.stages, unit="analysis", disable=not sys.stderr.isatty(), leave=False)
    for name in shown:
        shown.set_description(name)
        entries += [_write(folder, each) for each in found.stages[name]()]
    about = {
        "run": run.folder.resolve().name,
        "compared_with": compare and Path(compare).name,
        "num_images": num_images,
        "openunite": openunite.__version__,
        "analyses": entries,
        "missing": dict(found.missing),
    }
    write_json(folder / "analysis.json", about)
    _print(entries, found)
    say(f"\n{len(entries)} analyses -> {folder}; next: openunite report {run.folder}")
    return about


def run(command: Analyze) -> None:
    """Run `openunite analyze`."""
    analyze(**vars(command))


def _analyses(
    run: Run, pipeline: UnitePipeline, other: tuple[str, UnitePipeline] | None, count: int
) -> Analyses:
    """The analyses of training and weights, then those of the run's modality."""
    config, rows = run.config, run.log
    task = get_task(config.modality)
    found = task.analyses(Analyzed(run.folder, config, pipeline, count), other)
    stages, missing = dict(found.stages), dict(found.missing)
    first = {"weights": lambda: [Found(_entropy(config, pipeline, other))]}
    if any({"loss_reconstruction", "loss_flow"} <= set(row) for row in rows):
        first = {"training": lambda: [Found(training_dynamics(rows))]} | first
    else:
        missing = {Dynamics.title: "there is no metrics.jsonl with both losses"} | missing
    return Analyses(first | stages, missing)


def _entropy(
    config: RunConfig, pipeline: UnitePipeline, other: tuple[str, UnitePipeline] | None
) -> WeightEntropy:
    """Weight entropy of each encoder, and of its tokenizer if that is a separate network."""
    fresh, _ = build_models(config)
    models = {"random initialization": fresh, "this run": pipeline.encoder}
    if other is not None:
        models[other[0]] = other[1].encoder
    parts: dict[str, dict[str, Tensor]] = {}
    for model, encoder in models.items():
        for key, weight in encoder.named_parameters():
            part = f"{model}, tokenizer" if key.startswith("tokenizer.") else model
            parts.setdefault(part, {})[key] = weight
    return weight_entropy(parts)


def _write(folder: Path, found: Found) -> Entry:
    """Write the figure (and the animation) of one analysis; return its entry."""
    result = found.result
    name = result.name + found.suffix
    result.figure().savefig(folder / f"{name}.png")
    files = [f"{name}.png"]
    if isinstance(result, Trajectory):
        frames, durations = result.animation()
        frames[0].save(
            folder / f"{name}.gif",
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
        )
        files.append(f"{name}.gif")
    title = f"{result.title} ({found.of})" if found.of else result.title
    return {
        "name": name,
        "title": title,
        "reading": result.reading,
        "chart": result.chart,
        "files": files,
        "numbers": _plain(result.numbers()),
    }


def _plain(value: Any) -> Any:
    """The value with None in place of NaN and infinity, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(entries: list[Entry], found: Analyses) -> None:
    for entry in entries:
        say(f"\n{entry['title']}")
        for name, value in entry["numbers"].items():
            if isinstance(value, list | dict):
                continue
            shown = f"{value:.4g}" if isinstance(value, float) else value
            say(f"  {name:<48} {'undefined' if value is None else shown}")
    for reason, titles in by_reason(found.missing).items():
        say(f"\nLeft out, for {reason}: {', '.join(titles)}")

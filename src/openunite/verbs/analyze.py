"""`openunite analyze`: every analysis of a run, as figures, numbers and a table."""

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

import openunite
from openunite.analysis.base import Analysis
from openunite.analysis.dynamics import Dynamics, training_dynamics
from openunite.analysis.entropy import WeightEntropy, weight_entropy
from openunite.analysis.trajectory import Trajectory
from openunite.commands import Analyze
from openunite.drawing.pictures import read_rows
from openunite.files import write_json
from openunite.modalities.image.analyses import IMAGE_ANALYSES, ImageStudy
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import UnitePipeline
from openunite.progress import bar, say
from openunite.reporting.tables import by_reason
from openunite.runs import Run, load_pipeline
from openunite.training.build import build_models
from openunite.training.config import RunConfig
from openunite.training.device import choose_device

Entry = dict[str, Any]  # one of analysis.json


@dataclass(frozen=True)
class Found:
    """An analysis under the name of its files; `of` names the run where that is the other one."""

    result: Analysis
    suffix: str = ""
    of: str = ""


Stage = tuple[str, Callable[[], Iterable[Found]]]


def analyze(
    source: str | Path | Run,
    *,
    num_images: int = 1000,
    compare: str | Path | None = None,
    output: str | Path | None = None,
) -> dict[str, Any]:
    """Every analysis of a run as numbers; figures, a GIF and analysis.json go into a folder.

    `num_images` are looked at; `compare` is another run; `output` a folder (default RUN/analysis).
    """
    run = source if isinstance(source, Run) else Run.of(source)
    if num_images < 16:
        raise ValueError(f"--num-images must be at least 16, got {num_images}")
    folder = Path(output or run.folder / "analysis")
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = _loaded(str(run.folder))
    other = _loaded(str(compare)) if compare else None
    asked = Analyze(str(run.folder), num_images, str(compare) if compare else None, str(folder))
    stages, missing = _stages(asked, run.config, pipeline, other)
    entries: list[Entry] = []
    shown = bar(stages, unit="analysis", disable=not sys.stderr.isatty(), leave=False)
    for name, stage in shown:
        shown.set_description(name)
        entries += [_write(folder, found) for found in stage()]
    about = {
        "run": run.folder.resolve().name,
        "compared_with": compare and Path(compare).name,
        "num_images": num_images,
        "openunite": openunite.__version__,
        "analyses": entries,
        "missing": missing,
    }
    write_json(folder / "analysis.json", about)
    _print(entries, missing)
    say(f"\n{len(entries)} analyses -> {folder}; next: openunite report {run.folder}")
    return about


def run(command: Analyze) -> None:
    """Do what the command says."""
    analyze(
        command.source,
        num_images=command.num_images,
        compare=command.compare,
        output=command.output,
    )


def _loaded(source: str) -> UnitePipeline:
    pipeline = load_pipeline(source)
    pipeline.to(choose_device())
    return pipeline


def _stages(
    command: Analyze, config: RunConfig, pipeline: UnitePipeline, other: UnitePipeline | None
) -> tuple[list[Stage], dict[str, str]]:
    """What can be done with this run, and why the rest cannot."""
    run, stages = Path(command.source), list[Stage]()
    missing: dict[str, str] = {}
    rows = read_rows(run / "metrics.jsonl") if (run / "metrics.jsonl").is_file() else []
    if any({"loss_reconstruction", "loss_flow"} <= set(row) for row in rows):
        stages.append(("training", lambda: [Found(training_dynamics(rows))]))
    else:
        missing[Dynamics.title] = "there is no metrics.jsonl with both losses"
    stages.append(("weights", lambda: [Found(_entropy(config, pipeline, other, command.compare))]))
    if not isinstance(pipeline, ImagePipeline):
        reason = f"they are made for images and this run is on {config.modality}s"
        return stages, missing | {kind.title: reason for kind in IMAGE_ANALYSES}
    study = ImageStudy.open(run, config, pipeline, command.num_images)
    stages += [
        (name, lambda stage=stage: map(Found, stage()))  # type: ignore[misc]
        for name, stage in study.stages.items()
    ]
    if other is not None:
        beside, of = _beside(study, other, command.compare or ""), Path(command.compare or "").name
        stages.append(("layers of the other", lambda: [Found(beside.similarity(), "_compare", of)]))
    return stages, missing | study.missing


def _beside(study: ImageStudy, other: UnitePipeline, name: str) -> ImageStudy:
    """The other model on the same data. ValueError if it takes none of them."""
    shape = study.pipeline.encoder.config.modality_config
    sides = ("height", "width", "channels")
    found = other.encoder.config.modality_config
    if not isinstance(other, ImagePipeline) or any(found[x] != shape[x] for x in sides):
        raise ValueError(
            f"--compare {name} was not trained on images of {shape['height']} x {shape['width']} "
            f"with {shape['channels']} channels, as this run was; name another run"
        )
    return replace(study, pipeline=other)


def _entropy(
    config: RunConfig, pipeline: UnitePipeline, other: UnitePipeline | None, name: str | None
) -> WeightEntropy:
    """Of the encoders; where tokenizing has weights of its own, of both."""
    fresh, _ = build_models(config)
    models = {"random initialization": fresh, "this run": pipeline.encoder}
    if other is not None and name is not None:
        models[Path(name).name] = other.encoder
    parts: dict[str, dict[str, Tensor]] = {}
    for model, encoder in models.items():
        for key, weight in encoder.named_parameters():
            part = f"{model}, tokenizer" if key.startswith("tokenizer.") else model
            parts.setdefault(part, {})[key] = weight
    return weight_entropy(parts)


def _write(folder: Path, found: Found) -> Entry:
    """The figure (and the animation) of one analysis; its entry."""
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
    """JSON has no NaN: undefined numbers become null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(entries: list[Entry], missing: dict[str, str]) -> None:
    for entry in entries:
        say(f"\n{entry['title']}")
        for name, value in entry["numbers"].items():
            if isinstance(value, list | dict):
                continue
            shown = f"{value:.4g}" if isinstance(value, float) else value
            say(f"  {name:<48} {'undefined' if value is None else shown}")
    for reason, titles in by_reason(missing).items():
        say(f"\nLeft out, for {reason}: {', '.join(titles)}")

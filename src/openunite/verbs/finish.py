"""The end of `train`: write the pipeline, pictures and metrics, and print a summary."""

from pathlib import Path
from typing import Any

import torch

from openunite.drawing.pictures import draw_curves
from openunite.files import write_json
from openunite.progress import say
from openunite.runs import Run, make_pipeline
from openunite.task import Data, Task
from openunite.training.config import RunConfig
from openunite.training.trainer import TrainResult


def finish(
    config: RunConfig, folder: Path, task: Task, data: Data, ema: Any, result: TrainResult
) -> None:
    """Write the pipeline first, so that a later error cannot lose it; then pictures and metrics."""
    pipeline = make_pipeline(ema.encoder, ema.decoder, config, task.record(data))
    pipeline.save_pretrained(folder / "pipeline")
    draw_curves(folder / "metrics.jsonl", folder / "curves.png")
    # Reconstructions are evaluated together with samples, which an autoencoder alone cannot draw.
    metrics = task.finish(config, folder, data, pipeline) if config.kind.generates else {}
    rate = config.steps * config.batch_size / result.train_seconds
    metrics |= {
        "train_seconds": round(result.train_seconds, 2),
        f"{task.things}_per_second": round(rate, 1),
        "steps": config.steps,
        "parameters": sum(p.numel() for m in (ema.encoder, ema.decoder) for p in m.parameters()),
        "seed": config.seed,
        "torch_version": torch.__version__,
    }
    write_json(folder / "metrics.json", metrics)
    summarize(folder, task)


def summarize(folder: Path, task: Task) -> None:
    """Print a short table of metrics, without errors and totals, and the next commands."""
    shown = {k: v for k, v in Run(folder).metrics.items() if not k.endswith(("_se", "_of"))}
    width = max(map(len, shown))
    say()
    for name, value in shown.items():
        say(
            f"  {name:<{width}} {value:.4f}"
            if isinstance(value, float)
            else f"  {name:<{width}} {value}"
        )
    pictures = ", ".join(path.name for path in Run(folder).pictures)
    say(f"\nPictures in {folder}: {pictures}. Next:")
    for line in task.next_commands(folder):
        say(f"  {line}")

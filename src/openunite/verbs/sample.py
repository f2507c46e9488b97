"""`openunite sample`: generate with a trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from openunite.commands import Sample
from openunite.pipelines.asked import Asked, part_of
from openunite.pipelines.base import UnitePipeline
from openunite.progress import bar, say
from openunite.task import Task, task_of
from openunite.verbs.inputs import Source, at_least_one, claim, open_pipeline


def sample(
    source: Source,
    num_samples: int = 16,
    *,
    classes: Sequence[str | int] = (),
    seed: int = 0,
    output: str | Path | None = None,
    batch_size: int = 64,
    conditions: Asked = None,
    **options: Any,
) -> list[Any]:
    """Samples of a run, a pipeline, its folder or a hub id: tensors (C, H, W), or structures.

    Sample i uses seed + i. `classes` are names or numbers, used in turn (default: all).
    `options` change the sampling for this call (guidance_scale=1.5, num_inference_steps=20); for
    molecules and crystals `num_atoms`. `conditions` name what samples are to be like, with a value
    for all or a list with one for each: {"gap": (4, 5)}. `output` is a file or folder to write as
    well.
    """
    at_least_one("num_samples", num_samples)
    at_least_one("batch_size", batch_size)
    pipeline = open_pipeline(source)
    task = task_of(pipeline)
    path = None if output is None else claim(str(output), task.outputs)
    suffix = "" if path is None else path.suffix.lower()
    if path is not None:
        task.check_output(pipeline, suffix)
    labels = task.classes(pipeline, [str(name) for name in classes], num_samples, suffix)
    samples: list[Any] = []
    starts = range(0, num_samples, batch_size)
    for start in bar(starts, "sampling", unit="batch", disable=len(starts) < 2):
        stop = min(start + batch_size, num_samples)
        part, seeds = slice(start, stop), range(seed + start, seed + stop)
        given = {"conditions": part_of(conditions, part)} if conditions else {}
        samples += pipeline.generate(labels and labels[part], seeds=seeds, **given, **options)
    if path is not None:
        say(f"{task.write(path, samples)} {task.things} -> {path}")
    return samples


def run(command: Sample) -> None:
    """Do what the command says."""
    at_least_one("--num-samples", command.num_samples)
    at_least_one("--batch-size", command.batch_size)
    pipeline = open_pipeline(command.source)
    sample(
        pipeline,
        command.num_samples,
        classes=command.classes,
        seed=command.seed,
        output=command.output,
        batch_size=command.batch_size,
        guidance_scale=command.guidance_scale,
        num_inference_steps=command.num_inference_steps,
        solver=command.solver,
        conditions=dict(map(read_asked, command.condition)),
        **_own_options(task_of(pipeline), command, pipeline),
    )


def read_asked(text: str) -> tuple[str, Any]:
    """ "gap=4..5" -> name and value; commas part several names. ValueError for another form."""
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name or not value:
        raise ValueError(f"expected NAME=VALUE, got {text!r:.80}")
    return name, tuple(value.split(",")) if "," in value else value


def _own_options(task: Task, command: Sample, pipeline: UnitePipeline) -> dict[str, Any]:
    """The options that only some modalities have. ValueError for one that this one has not."""
    given = {"num_atoms": command.num_atoms}
    for name, value in given.items():
        if value is not None and name not in task.sample_options:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is not for {task.things}, which {command.source} makes")
    return {name: value for name, value in given.items() if value is not None}

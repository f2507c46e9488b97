"""`openunite sample`: generate with a trained model."""

from typing import Any

from tqdm import tqdm

from openunite.commands import Sample
from openunite.loading import load_pipeline
from openunite.task import Task, task_of
from openunite.training.device import choose_device
from openunite.verbs.outputs import at_least_one, claim


def sample(command: Sample) -> None:
    """Generate samples into a file, a picture or a folder."""
    at_least_one("--num-samples", command.num_samples)
    at_least_one("--batch-size", command.batch_size)
    pipeline = load_pipeline(command.source)
    pipeline.to(choose_device())
    task = task_of(pipeline)
    output = claim(command.output, task.outputs)
    suffix = output.suffix.lower()
    task.check_output(pipeline, suffix)
    options = _own_options(task, command)
    labels = task.classes(pipeline, command.classes, command.num_samples, suffix)
    samples: list[Any] = []
    starts = range(0, command.num_samples, command.batch_size)
    for start in tqdm(starts, desc="sampling", unit="batch", disable=len(starts) < 2):
        stop = min(start + command.batch_size, command.num_samples)
        samples += pipeline.generate(
            labels and labels[start:stop],
            seeds=range(command.seed + start, command.seed + stop),
            guidance_scale=command.guidance_scale,
            num_inference_steps=command.num_inference_steps,
            solver=command.solver,
            **options,
        )
    print(f"{task.write(output, samples)} {task.things} -> {output}")


def _own_options(task: Task, command: Sample) -> dict[str, Any]:
    """The options that only some modalities have. ValueError for one that this one has not."""
    given = {"num_atoms": command.num_atoms}
    for name, value in given.items():
        if value is not None and name not in task.sample_options:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is not for {task.things}, which {command.source} makes")
    return {name: value for name, value in given.items() if value is not None}

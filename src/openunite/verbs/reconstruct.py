"""`openunite reconstruct`: encode and decode what is in files."""

from itertools import islice
from typing import Any

from openunite.commands import Reconstruct
from openunite.loading import load_pipeline
from openunite.task import in_batches, task_of
from openunite.training.device import choose_device
from openunite.verbs.outputs import at_least_one, claim, find_sources, tell

_AT_ONCE = 64


def reconstruct(command: Reconstruct) -> None:
    """Write inputs and outputs, and print how far they are apart."""
    at_least_one("--num-samples", command.num_samples)
    find_sources(command.files)
    pipeline = load_pipeline(command.source)
    pipeline.to(choose_device())
    task = task_of(pipeline)
    output = claim(command.output, task.pair_outputs)
    task.check_output(pipeline, output.suffix.lower())
    found = islice(task.read(pipeline, command.files, tell), command.num_samples)
    names: list[str] = []
    inputs: list[Any] = []
    outputs: list[Any] = []
    for batch in in_batches(found, _AT_ONCE):
        names += [name for name, _ in batch]
        before, after = task.reconstruct(pipeline, [item for _, item in batch])
        inputs, outputs = inputs + before, outputs + after
    task.write_pairs(output, names, inputs, outputs)
    print(f"{len(names)} {task.things}, {task.compare(inputs, outputs)} -> {output}")

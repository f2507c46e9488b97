"""`openunite encode`: latents of what is in files."""

from typing import Any

import numpy as np

from openunite.commands import Encode
from openunite.files import whole_file
from openunite.loading import load_pipeline
from openunite.task import in_batches, task_of
from openunite.training.device import choose_device
from openunite.verbs.outputs import at_least_one, claim, find_sources, tell


def encode(command: Encode) -> None:
    """Write an .npz with latents and the names of what they came from."""
    at_least_one("--batch-size", command.batch_size)
    output = claim(command.output, (".npz",))
    find_sources(command.files)
    pipeline = load_pipeline(command.source)
    pipeline.to(choose_device())
    task = task_of(pipeline)
    names: list[str] = []
    parts: list[dict[str, np.ndarray]] = []
    for batch in in_batches(task.read(pipeline, command.files, tell), command.batch_size):
        names += [name for name, _ in batch]
        parts.append(task.latents(pipeline, [item for _, item in batch]))
    arrays: dict[str, Any] = {task.names_key: np.array(names)}
    arrays |= {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    with whole_file(output) as file:
        np.savez(file, **arrays)
    print(f"{len(names)} {task.things} -> latents {arrays['latents'].shape} in {output}")

"""`openunite encode`: compute the latents of data in files."""

from pathlib import Path
from typing import Any

import numpy as np

from openunite.commands import Encode
from openunite.files import atomic_file
from openunite.pipelines.inputs import whole_number
from openunite.progress import say
from openunite.task import in_batches, task_of
from openunite.verbs.inputs import Source, claim, open_pipeline, read_items


def encode(
    source: Source, data: Any, *, output: str | Path | None = None, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Encode data; return arrays: `latents` (N, K, C) and the names of the N inputs.

    For molecules and crystals, `latents` is (total atoms, C) and `num_atoms` (N,) splits it.
    `source` is a run, a pipeline, its folder or a hub id; `data` is files and folders, or a list of
    images or structures. The arrays are also written to `output`, an .npz file, if it is given.
    """
    batch_size = whole_number("batch_size", batch_size)
    path = None if output is None else claim(str(output), (".npz",))
    pipeline = open_pipeline(source)
    task = task_of(pipeline)
    names: list[str] = []
    parts: list[dict[str, np.ndarray]] = []
    for batch in in_batches(read_items(task, pipeline, data), batch_size):
        names += [name for name, _ in batch]
        parts.append(task.latents(pipeline, [item for _, item in batch]))
    arrays: dict[str, Any] = {task.names_key: np.array(names)}
    arrays |= {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    if path is not None:
        with atomic_file(path) as file:
            np.savez(file, **arrays)
        say(f"{len(names)} {task.things} -> latents {arrays['latents'].shape} in {path}")
    return arrays


def run(command: Encode) -> None:
    """Run `openunite encode`."""
    files, output = list(command.files), command.output
    encode(command.source, files, output=output, batch_size=command.batch_size)

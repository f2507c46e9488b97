"""`openunite reconstruct`: encode and decode data in files."""

from itertools import islice
from pathlib import Path
from typing import Any

from openunite.commands import Reconstruct
from openunite.pipelines.inputs import whole_number
from openunite.progress import say
from openunite.task import in_batches, task_of
from openunite.verbs.inputs import Source, claim, open_pipeline, read_items
from openunite.verbs.outputs import SHOWN

_AT_ONCE = 64


def reconstruct(
    source: Source,
    data: Any,
    *,
    num_samples: int | None = None,
    output: str | Path | None = None,
) -> tuple[list[Any], list[Any]]:
    """Encode and decode data; return inputs and outputs: tensors (C, H, W), or structures.

    `source` is a run, a pipeline, its folder or a hub id; `data` is files and folders, or a list of
    images or structures, of which `num_samples` are used (default: all). Inputs are returned as the
    model receives them. Both are also written to `output` if it is given.
    """
    if num_samples is not None:
        num_samples = whole_number("num_samples", num_samples)
    pipeline = open_pipeline(source)
    task = task_of(pipeline)
    path = None if output is None else claim(str(output), task.pair_outputs)
    if path is not None:
        task.check_output(pipeline, path.suffix.lower())
    names, inputs, outputs = list[str](), list[Any](), list[Any]()
    for batch in in_batches(islice(read_items(task, pipeline, data), num_samples), _AT_ONCE):
        names += [name for name, _ in batch]
        before, after = task.reconstruct(pipeline, [item for _, item in batch])
        inputs += before
        outputs += after
    words = f"{len(names)} {task.things}, {task.compare(inputs, outputs)}"
    if path is not None:
        shown = slice(SHOWN if path.suffix.lower() == ".png" else None)
        if len(names[shown]) < len(names):
            say(f"a .png shows {SHOWN} {task.things} at most: the first are in {path}", err=True)
        task.write_pairs(path, names[shown], inputs[shown], outputs[shown])
        words += f" -> {path}"
    say(words)
    return inputs, outputs


def run(command: Reconstruct) -> None:
    """Run `openunite reconstruct`."""
    pipeline = open_pipeline(command.source)
    output = command.output or f"reconstructions{task_of(pipeline).pair_outputs[0]}"
    reconstruct(pipeline, list(command.files), num_samples=command.num_samples, output=output)

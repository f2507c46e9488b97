"""`openunite sample`: generate with a trained model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from openunite.commands import Sample
from openunite.drawing.lists import shown
from openunite.pipelines.asked import Asked, check_lengths, part_of
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.inputs import class_indices, one_each, seeds_of, whole_number
from openunite.progress import bar, say
from openunite.runs import weights_checksums
from openunite.task import Task, task_of
from openunite.verbs.inputs import Source, claim, open_pipeline
from openunite.verbs.outputs import SHOWN, fill_folder, forget_parts, stored_parts


@overload
def sample(
    source: Source, num_samples: int = ..., *, output: None = ..., **options: Any
) -> list[Any]: ...


@overload
def sample(
    source: Source, num_samples: int = ..., *, output: str | Path, **options: Any
) -> Path: ...


def sample(
    source: Source,
    num_samples: int = 16,
    *,
    classes: Sequence[str | int] | str | int = (),
    seed: int = 0,
    output: str | Path | None = None,
    batch_size: int = 64,
    conditions: Asked = None,
    **options: Any,
) -> list[Any] | Path:
    """Samples of a run, a pipeline, its folder or a hub id: tensors (C, H, W), or structures.

    With `output`, a file or a folder, they are written there instead, and the path is returned: so
    there may be more than fit into memory. A call that was stopped goes on if it is made again. A
    .png holds 256 samples at most.

    Sample i uses seed + i. `classes` are names or numbers, used in turn (default: all).
    `conditions` name what the samples are to be like, with a value for all or a list with one for
    each: {"gap": (4, 5)}. `options` change the sampling for this call (guidance_scale=1.5,
    num_inference_steps=20); for molecules and crystals `num_atoms`.
    """
    count = whole_number("num_samples", num_samples)
    batch_size = whole_number("batch_size", batch_size)
    first, _ = int(seeds_of(1, None, seed)), seeds_of(1, None, seed + count - 1)
    pipeline = open_pipeline(source)
    task = task_of(pipeline)
    pipeline.refuse_unknown(options, sample, *task.sample_options)
    path = None if output is None else claim(str(output), task.outputs)
    suffix = "" if path is None else path.suffix.lower()
    if path is not None:
        task.check_output(pipeline, suffix)
    chosen = tuple(map(str, [classes] if isinstance(classes, str | int) else classes))
    sizes = options.pop("num_atoms", None)
    check_lengths(conditions or {}, count)
    drawing = Drawing(
        pipeline,
        chosen,
        task.classes(pipeline, chosen, count, suffix),
        first,
        None if sizes is None else one_each("number of atoms", sizes, count),
        dict(conditions or {}),
        options,
    )
    if path is None:
        return shown(drawing.all(count, batch_size))
    if suffix == ".png" and count > SHOWN:
        say(f"a .png shows the first {SHOWN} samples; {_more(task)}", err=True)
        count = SHOWN
    say(f"{_write(path, task, drawing, count, batch_size)} {task.things} -> {path}")
    return path


@dataclass(frozen=True)
class Drawing:
    """What is asked of a pipeline: sample i has seed `seed` + i, labels[i] and sizes[i]."""

    pipeline: UnitePipeline
    classes: Sequence[str]
    labels: Sequence[int | str] | None
    seed: int
    sizes: Sequence[int] | None
    conditions: dict[str, Any]
    options: dict[str, Any]

    def __call__(self, numbers: Sequence[int]) -> list[Any]:
        """The samples with these numbers."""
        own: dict[str, Any] = {}
        if self.sizes is not None:
            own["num_atoms"] = [self.sizes[i] for i in numbers]
        if self.conditions:
            own["conditions"] = part_of(self.conditions, numbers)
        labels = None if self.labels is None else [self.labels[i] for i in numbers]
        seeds = [self.seed + i for i in numbers]
        return list(self.pipeline.generate(labels, seeds=seeds, **own, **self.options))

    def all(self, count: int, batch_size: int) -> list[Any]:
        """The first `count` samples."""
        starts = range(0, count, batch_size)
        steps = bar(starts, "sampling", unit="batch", disable=len(starts) < 2)
        return [x for i in steps for x in self(range(i, min(i + batch_size, count)))]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides a sample beside its number, as plain values."""
        options = {name: value for name, value in self.options.items() if name != "callback"}
        by_name = {name: dict(v) for name, v in options.items() if isinstance(v, Mapping)}
        changes = {name: value for name, value in options.items() if name not in by_name}
        return {
            "weights": weights_checksums(self.pipeline),
            "sampling": self.pipeline.sampling.change(**changes).to_dict(),
            "by_name": by_name,
            "classes": list(self.classes),
            "conditions": self.conditions,
            "seed": self.seed,
            "sizes": self.sizes and [int(size) for size in self.sizes],
        }

    def class_indices(self, count: int) -> list[int] | None:
        """The classes of the first samples."""
        if self.labels is None:
            return None
        names, known = self.pipeline.config.class_names, self.pipeline.encoder.config.num_classes
        return class_indices(self.labels[:count], count, known, names)


def _write(path: Path, task: Task, drawing: Drawing, count: int, batch_size: int) -> int:
    """Write the samples and return how many there are in the file or the folder."""
    if not path.suffix:
        fill_folder(path, task, count, batch_size, drawing, drawing.settings)
        return count
    labels = drawing.class_indices(count)
    if count <= batch_size:
        forget_parts(path)
        return task.write(path, drawing(range(count)), labels)
    settings = drawing.settings | {"suffix": path.suffix.lower()}
    with stored_parts(path, task, count, batch_size, drawing, settings) as samples:
        return task.write(path, samples, labels)


def _more(task: Task) -> str:
    """Where all samples can go."""
    others = [suffix or "a folder" for suffix in task.outputs if suffix != ".png"]
    return f"for all of them choose {' or '.join(others)} as --output"


def run(command: Sample) -> None:
    """Run `openunite sample`."""
    options = vars(command) | {"source": open_pipeline(command.source)}
    task = task_of(options["source"])
    options["output"] = command.output or f"samples{task.outputs[0]}"
    options["conditions"] = dict(map(read_asked, options.pop("condition")))
    if command.num_atoms is None:
        del options["num_atoms"]
    elif "num_atoms" not in task.sample_options:
        raise ValueError(f"--num-atoms is not for {task.things}, which {command.source} makes")
    sample(**options)


def read_asked(text: str) -> tuple[str, Any]:
    """ "gap=4..5" -> name and value; commas part several names. ValueError for another form."""
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name or not value:
        raise ValueError(f"expected NAME=VALUE, got {text!r:.80}")
    return name, tuple(value.split(",")) if "," in value else value

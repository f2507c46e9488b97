"""`openunite sample`: generate with a trained model."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from openunite.commands import Sample
from openunite.drawing.lists import shown
from openunite.evaluation.images.features.base import tensor_checksum
from openunite.pipelines.asked import Asked, check_lengths, part_of
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.inputs import class_indices, one_each, seeds_of, whole_number
from openunite.progress import bar, say
from openunite.runs import weights_checksums
from openunite.task import Task, task_of
from openunite.texts import printable
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
    num_inference_steps=20); for molecules and crystals `num_atoms`; for images `observed`, `mask`
    and `paste` complete images of which a part is known, without classes unless some are given.
    """
    count = whole_number("num_samples", num_samples)
    batch_size = whole_number("batch_size", batch_size)
    first, _ = int(seeds_of(1, None, seed)), seeds_of(1, None, seed + count - 1)
    task = task_of(pipeline := open_pipeline(source))
    pipeline.refuse_unknown(options, sample, *task.sample_options)
    path = None if output is None else claim(str(output), task.outputs)
    suffix = "" if path is None else path.suffix.lower()
    if path is not None:
        task.check_output(pipeline, suffix)
    chosen = tuple(map(str, [classes] if isinstance(classes, str | int) else classes))
    sizes, known = options.pop("num_atoms", None), _known_part(pipeline, options, count)
    check_lengths(conditions or {}, count)
    drawing = Drawing(
        pipeline,
        chosen,
        None if known and not chosen else task.classes(pipeline, chosen, count, suffix),
        first,
        None if sizes is None else one_each("number of atoms", sizes, count),
        dict(conditions or {}),
        known,
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
    """What is asked of a pipeline: sample i has seed `seed` + i, labels[i] and sizes[i].

    `known` holds tensors with a row for each sample, or one row for all.
    """

    pipeline: UnitePipeline
    classes: Sequence[str]
    labels: Sequence[int | str] | None
    seed: int
    sizes: Sequence[int] | None
    conditions: dict[str, Any]
    known: dict[str, Tensor]
    options: dict[str, Any]

    def __call__(self, numbers: Sequence[int]) -> list[Any]:
        """The samples with these numbers."""
        own: dict[str, Any] = {}
        if self.sizes is not None:
            own["num_atoms"] = [self.sizes[i] for i in numbers]
        if self.conditions:
            own["conditions"] = part_of(self.conditions, numbers)
        for name, rows in self.known.items():
            own[name] = rows if len(rows) == 1 else rows[list(numbers)]
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
        apart = ("callback", "paste")
        options = {name: value for name, value in self.options.items() if name not in apart}
        by_name = {name: dict(v) for name, v in options.items() if isinstance(v, Mapping)}
        changes = {name: value for name, value in options.items() if name not in by_name}
        paste = bool(self.options.get("paste"))
        return {
            "weights": weights_checksums(self.pipeline),
            "sampling": self.pipeline.sampling.change(**changes).to_dict(),
            "by_name": by_name,
            "classes": list(self.classes),
            "conditions": self.conditions,
            "seed": self.seed,
            "sizes": self.sizes and [int(size) for size in self.sizes],
            **({"known": [tensor_checksum(self.known), paste]} if self.known else {}),
        }

    def class_indices(self, count: int) -> list[int] | None:
        """The classes of the first samples."""
        if self.labels is None:
            return None
        names, known = self.pipeline.config.class_names, self.pipeline.encoder.config.num_classes
        return class_indices(self.labels[:count], count, known, names)


def _known_part(pipeline: Any, options: dict[str, Any], count: int) -> dict[str, Tensor]:
    """What of each sample is known, taken from the options; nothing if they do not say."""
    observed, mask = options.pop("observed", None), options.pop("mask", None)
    if observed is None and mask is None:
        return {}
    return dict(zip(("observed", "mask"), pipeline.known(observed, mask, count), strict=True))


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
    for name in ("num_atoms", "observed", "mask"):
        if options[name] is None:
            del options[name]
        elif name not in task.sample_options:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is not for {task.things}, which {command.source} makes")
    if "mask" in options:
        options["paste"] = True
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        sample(**options)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning without the line of code that it comes from."""
    say(printable(f"warning: {message}"), err=True)


def read_asked(text: str) -> tuple[str, str]:
    """ "gap=4..5" -> name and value. ValueError for another form."""
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name or not value:
        raise ValueError(f"expected NAME=VALUE, got {text!r:.80}")
    return name, value

"""The interface between the commands and a modality: data, files, pictures and metrics.

The network uses a `Modality` (modality.py), and the commands use a `Task`. The defaults here are
for data points that are arrays of one shape, read by the file readers registered for `things`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from openunite.analysis.base import Analyses
from openunite.catalog import get_spec
from openunite.data.readers import files_of, read_files
from openunite.files import atomic_file, write_rows
from openunite.pipelines.base import UnitePipeline
from openunite.training.config import RunConfig
from openunite.training.loader import TrainingData
from openunite.training.sizes import get_size

Metrics = dict[str, float | int | str]


@dataclass(frozen=True)
class Options:
    """The options of `train` besides settings and data; None means that an option was not given.

    `condition` holds `NAME[=KIND][:COLUMN]`, `set` assignments "section.field=value". `fresh` is
    True for a recipe, whose sizes may be adapted to the data, and False for settings from a file.
    """

    minutes: float | None = None
    steps: int | None = None
    size: str | None = None
    image_size: int | None = None
    patch_size: int | None = None
    max_atoms: int | None = None
    batch_size: int | None = None
    max_bad_share: float | None = None
    seed: int | None = None
    sharding: str | None = None
    compile: bool = False
    init_from: str | None = None
    condition: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    fresh: bool = True


DataColumns = Mapping[str, Callable[[], list[Any]]]  # name -> a value for each sample
Tell = Callable[[str, str], None]  # called with the name of a skipped item and the reason


@dataclass(frozen=True)
class Analyzed:
    """A run to analyze with `count` of its data points."""

    folder: Path
    config: RunConfig
    pipeline: Any
    count: int


class Data(Protocol):
    """The opened data of a run: training and held-out samples, and skipped items."""

    @property
    def name(self) -> str: ...
    @property
    def train(self) -> TrainingData: ...
    @property
    def test(self) -> TrainingData: ...
    @property
    def skipped(self) -> Sequence[Any]: ...
    @property
    def fingerprint(self) -> str: ...


class Task(ABC):
    """The operations that the commands need from a modality.

    `things` is the plural word for the data points, and the key of their file readers; `sources`
    describes what `train` can read. `outputs` are the suffixes that `sample` can write ("" is a
    folder of files with the suffix `file_suffix`), `pair_outputs` those of `reconstruct`; the first
    is the default. `train_options` and `sample_options` name the options that not all modalities
    have. `parts` are subfolders of a run with parts of its evaluation, and prefixes of its metrics.
    """

    things: ClassVar[str]
    sources: ClassVar[str] = "a file or a folder"
    parts: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = (".npz", "")
    file_suffix: ClassVar[str] = ".npy"
    pair_outputs: ClassVar[tuple[str, ...]] = (".npz",)
    train_options: ClassVar[tuple[str, ...]] = ()
    sample_options: ClassVar[tuple[str, ...]] = ()
    expectation: ClassVar[str] = ""  # what runs of some lengths have given, for `train --minutes`
    names_key: ClassVar[str] = "names"  # name of the array with names that `encode` writes

    # ---- a run --------------------------------------------------------------------------------

    @abstractmethod
    def open(self, config: RunConfig, source: Any, *, progress: bool) -> Data:
        """Open a path, a name or objects in memory. ValueError, OSError or ImportError if not."""

    def configure(self, config: RunConfig, options: Options, source: Any) -> RunConfig:
        """The settings, changed by the options and adapted to the data.

        Options that only some modalities have are None unless `train_options` names them.
        """
        return sized(config, options.size)

    def follow(self, before: RunConfig, after: RunConfig) -> RunConfig:
        """The settings `after` an assignment to the modality's own, with others adapted to them."""
        return after

    def resolve(self, config: RunConfig, data: Any) -> RunConfig:
        """The settings, completed from the opened data. Raises ValueError if they do not fit."""
        return config

    def record(self, data: Any) -> dict[str, Any]:
        """Plain values about the data for data.json, including arguments of the pipeline."""
        return {}

    def columns(self, data: TrainingData) -> DataColumns:
        """What the data say of each sample beside the sample itself, by name; computed when asked.

        By default what the data have as `columns`: lists as long as they are.
        """
        own: Mapping[str, Sequence[Any]] = getattr(data, "columns", {})
        return {name: partial(list, values) for name, values in own.items()}

    def plan_for(self, config: RunConfig) -> RunConfig:
        """The settings for planning a run, with assumptions for those that depend on the data."""
        return config

    def describe(self, config: RunConfig) -> str:
        """The data points and their size in words, such as "images of 28 x 28 pixels"."""
        return self.things

    def preview(self, pipeline: Any, config: RunConfig, picture: Path) -> None:  # noqa: B027
        """Write a small picture of samples from fixed seeds, to compare during the run."""

    @abstractmethod
    def evaluate_model(self, command: Any, pipeline: Any, data: Any, extractor: Any) -> Any:
        """Evaluate a model; write its protocol card beside it and return the card.

        `command` is an `openunite.commands.measuring.Evaluate`. `data` is data in memory, or None
        for the source that `command` names.
        """

    @abstractmethod
    def finish(self, config: RunConfig, folder: Path, data: Any, pipeline: Any) -> Metrics:
        """Write pictures into the run folder; return metrics of held-out data and of samples."""

    def finish_seconds(self, config: RunConfig, data: Any) -> float:
        """Processor time of `finish`, about, for a run with a deadline; 0 if nobody knows."""
        return 0.0

    def next_commands(self, folder: Path) -> list[str]:
        """Commands to try after training."""
        return [f"openunite sample {folder} --output more{self.outputs[0]}"]

    def measuring(self, config: RunConfig, folder: Path) -> dict[str, str]:
        """Commands for further evaluation, by a word in the name of the file that each writes."""
        return {"card": f"`openunite evaluate {folder}` for a protocol card"}

    def analyses(self, run: "Analyzed", other: tuple[str, Any] | None) -> Analyses:
        """The analyses of a run besides those of its training and weights.

        `other` is the name and the pipeline of a run to compare with.
        """
        reason = f"none of them is known for {self.things}"
        return Analyses(missing={"layers, latents and samples": reason})

    # ---- a trained model ----------------------------------------------------------------------

    def classes(
        self, pipeline: UnitePipeline, chosen: Sequence[str], count: int, suffix: str
    ) -> list[int | str] | None:
        """One class per sample: the chosen ones, or all, in turn; None for a model without classes.

        A number is taken as the name of a class if there is one, else as an index. Raises
        ValueError if classes are chosen for a model without classes.
        """
        known, names = pipeline.encoder.config.num_classes, pipeline.config.class_names
        labels: list[int | str] = [
            int(c) if c.isdecimal() and c not in names else c for c in chosen
        ] or list(range(known))
        if chosen and not known:
            raise ValueError("the model was trained without classes; leave --classes out")
        return [labels[i % len(labels)] for i in range(count)] if labels else None

    def read(self, pipeline: Any, sources: Sequence[str], tell: Tell) -> Iterator[tuple[str, Any]]:
        """Yield (name, data point) for suitable files; `tell` is called for the others."""
        yield from read_files(files_of(sources, self.things), self.things, tell)

    def is_item(self, value: Any) -> bool:
        """Whether an object that can be iterated over is one data point, and not a list of them."""
        return False

    def item(self, value: Any) -> Any:
        """Convert an object in memory to a data point as `read` yields it."""
        return value

    def reconstruct(self, pipeline: Any, items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The inputs, as the model receives them, and the outputs."""
        inputs = pipeline.preprocess(items)
        return list(inputs.cpu().numpy()), list(pipeline.reconstruct(inputs).cpu().numpy())

    def latents(self, pipeline: Any, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """The arrays that `encode` writes; the first is `latents`."""
        return {"latents": pipeline.encode(pipeline.preprocess(items)).float().cpu().numpy()}

    def write(
        self, path: Path, samples: Collection[Any], labels: Sequence[int] | None = None
    ) -> int:
        """Write samples into a file whose suffix is in `outputs`; return their number.

        There may be more samples than fit into memory: iterate over them once.
        """
        rows = (np.asarray(sample) for sample in samples)
        others = {} if labels is None else {"labels": np.array(labels)}
        with atomic_file(path) as file:
            write_rows(file, "samples", rows, len(samples), **others)
        return len(samples)

    def write_one(self, path: Path, sample: Any) -> None:
        """Write one sample into a folder, as a file of its own with the suffix `file_suffix`."""
        with atomic_file(path) as file:
            np.save(file, np.asarray(sample))

    def is_sound(self, path: Path) -> bool:
        """Whether a file that `write_one` wrote can be read."""
        try:
            np.load(path)
        except (OSError, ValueError, EOFError):
            return False
        return True

    def pack(self, samples: Sequence[Any]) -> dict[str, Tensor]:
        """Samples as tensors with one row each, which `unpack` reads."""
        return {"samples": torch.stack([torch.as_tensor(sample) for sample in samples])}

    def unpack(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """Samples of which `pack` made these tensors, as `write` takes them."""
        return list(tensors["samples"])

    def write_pairs(
        self, path: Path, names: Sequence[str], inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> None:
        """Write inputs and outputs, or only the outputs, under the names of the inputs."""
        with atomic_file(path) as file:
            np.savez(file, inputs=np.stack(inputs), outputs=np.stack(outputs))

    def compare(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
        """The difference between inputs and outputs, in words."""
        error = np.abs(np.stack(inputs) - np.stack(outputs)).mean()
        return f"mean absolute error {error:.4g}"

    def check_output(self, pipeline: Any, suffix: str) -> None:  # noqa: B027
        """Raise ValueError or ImportError if such a file cannot hold the model's samples."""


def sized(config: RunConfig, size: str | None) -> RunConfig:
    """The settings with a model of a named size; the latents keep their shape."""
    if size is None:
        return config
    model = get_size(size).model(config.model.num_registers, config.model.latent_channels)
    return replace(config, model=model)


def get_task(modality: str) -> Task:
    """The task of a modality; its module is imported on first use."""
    task: Task = get_spec(modality).load("task")()
    return task


def pipeline_class(modality: str) -> type[UnitePipeline]:
    """The pipeline class of a modality; its module is imported on first use."""
    found: type[UnitePipeline] = get_spec(modality).load("pipeline")
    return found


def task_of(pipeline: UnitePipeline) -> Task:
    """The task of a pipeline's modality."""
    return get_task(pipeline.encoder.config.modality)


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch

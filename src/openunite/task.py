"""The outer half of a modality: its data, files, pictures and metrics.

`Modality` (modality.py) is what the network needs; a `Task` is what the commands need. The defaults
here are for data points that are arrays of one shape, read by the readers of `things`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from openunite.catalog import MODALITIES, get_spec
from openunite.data.readers import files_of, read_files
from openunite.files import whole_file
from openunite.pipelines.base import UnitePipeline
from openunite.training.config import RunConfig
from openunite.training.loader import TrainingData
from openunite.training.sizes import get_size

Metrics = dict[str, float | int | str]


@dataclass(frozen=True)
class Options:
    """What can be asked of `train` beside settings and data; None was not asked.

    `condition` holds "NAME[=KIND][:COLUMN]", `set` assignments "section.field=value". `fresh` is
    True for a recipe, whose sizes may be chosen by a look at the data, and False for settings from
    a file.
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
Tell = Callable[[str, str], None]  # name of something that is left out, and why


class Data(Protocol):
    """An opened source."""

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
    """One modality's part of the commands.

    `things` are the data points in words, and what readers of them hold. `outputs` are the suffixes
    that `sample` can write ("" is a folder), `pair_outputs` those of `reconstruct`; `train_options`
    and `sample_options` name the options of these commands that only some modalities have.
    """

    things: ClassVar[str]
    outputs: ClassVar[tuple[str, ...]] = (".npz",)
    pair_outputs: ClassVar[tuple[str, ...]] = (".npz",)
    train_options: ClassVar[tuple[str, ...]] = ()
    sample_options: ClassVar[tuple[str, ...]] = ()
    names_key: ClassVar[str] = "names"  # of the array with names that `encode` writes

    # ---- a run --------------------------------------------------------------------------------

    @abstractmethod
    def open(self, config: RunConfig, source: Any, *, progress: bool) -> Data:
        """The data of this run, from a path or a name, or from what a program has in memory.

        ValueError, FileNotFoundError and ImportError say what is wrong.
        """

    def configure(self, config: RunConfig, options: Options, source: Any) -> RunConfig:
        """The settings with what was asked for, and what that and the data imply.

        Of the options that only some modalities have, those in `train_options` can be given.
        """
        return sized(config, options.size)

    def follow(self, before: RunConfig, after: RunConfig) -> RunConfig:
        """The settings `after` those of the modality were assigned, with what they imply."""
        return after

    def resolve(self, config: RunConfig, data: Any) -> RunConfig:
        """Settings that follow from the data. ValueError if they do not fit."""
        return config

    def record(self, data: Any) -> dict[str, Any]:
        """What data.json keeps of the data: plain values, among them arguments of the pipeline."""
        return {}

    def columns(self, data: TrainingData) -> DataColumns:
        """What the data say of each sample beside the sample itself, by name; computed when asked.

        By default what the data have as `columns`: lists as long as they are.
        """
        own: Mapping[str, Sequence[Any]] = getattr(data, "columns", {})
        return {name: partial(list, values) for name, values in own.items()}

    def plan_for(self, config: RunConfig) -> RunConfig:
        """The settings for planning a run, with something assumed where the data decide."""
        return config

    def describe(self, config: RunConfig) -> str:
        """The size of the data points in a few words."""
        return self.things

    def preview(self, pipeline: Any, config: RunConfig, picture: Path) -> None:  # noqa: B027
        """A small picture of samples from fixed seeds, for watching them improve over the run."""

    @abstractmethod
    def evaluate_model(self, command: Any, pipeline: Any, data: Any, extractor: Any) -> Any:
        """The protocol card of a model, written beside it, as `openunite evaluate` asks.

        `command` is an `openunite.commands.Evaluate`; `data` are in memory, or None for what it
        names.
        """

    @abstractmethod
    def finish(self, config: RunConfig, folder: Path, data: Any, pipeline: Any) -> Metrics:
        """Pictures into the run folder; flat metrics of held-out data and of samples."""

    def next_commands(self, folder: Path) -> list[str]:
        """What to try after training."""
        return [f"openunite sample {folder} --output more{self.outputs[0]}"]

    # ---- a trained model ----------------------------------------------------------------------

    def classes(
        self, pipeline: UnitePipeline, chosen: Sequence[str], count: int, suffix: str
    ) -> list[int | str] | None:
        """One class per sample: the chosen ones, or all, in turn; None without classes.

        A number is a class's name where there is such a class, else its index.
        """
        known, names = pipeline.encoder.config.num_classes, pipeline.config.class_names
        labels: list[int | str] = [
            int(c) if c.isdecimal() and c not in names else c for c in chosen
        ] or list(range(known))
        if chosen and not known:
            raise ValueError("the model was trained without classes; leave --classes out")
        return [labels[i % len(labels)] for i in range(count)] if labels else None

    def read(self, pipeline: Any, sources: Sequence[str], tell: Tell) -> Iterator[tuple[str, Any]]:
        """Names and data points in files and folders that the model can take; others are told."""
        yield from read_files(files_of(sources, self.things), self.things, tell)

    def item(self, value: Any) -> Any:
        """A data point as `read` yields it, from what a program has in memory."""
        return value

    def reconstruct(self, pipeline: Any, items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The inputs, as the model takes them, and the outputs."""
        inputs = pipeline.preprocess(items)
        return list(inputs.cpu().numpy()), list(pipeline.reconstruct(inputs).cpu().numpy())

    def latents(self, pipeline: Any, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """Arrays that `encode` writes, the first being `latents`."""
        return {"latents": pipeline.encode(pipeline.preprocess(items)).float().cpu().numpy()}

    def write(self, path: Path, samples: Sequence[Any]) -> int:
        """Write samples into a file whose suffix is in `outputs`; return how many it holds."""
        with whole_file(path) as file:
            np.savez(file, samples=np.stack([np.asarray(sample) for sample in samples]))
        return len(samples)

    def write_pairs(
        self, path: Path, names: Sequence[str], inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> None:
        """Write inputs beside outputs, or the outputs alone under the names of the inputs."""
        with whole_file(path) as file:
            np.savez(file, inputs=np.stack(inputs), outputs=np.stack(outputs))

    def compare(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
        """How far outputs are from inputs, in words."""
        error = np.abs(np.stack(inputs) - np.stack(outputs)).mean()
        return f"mean absolute error {error:.4g}"

    def check_output(self, pipeline: Any, suffix: str) -> None:  # noqa: B027
        """ValueError or ImportError if the model's samples cannot go into a file of this kind."""


def sized(config: RunConfig, size: str | None) -> RunConfig:
    """The settings with a model of a named size, its latents as they were."""
    if size is None:
        return config
    model = get_size(size).model(config.model.num_registers, config.model.latent_channels)
    return replace(config, model=model)


def get_task(modality: str) -> Task:
    """The task of a modality; its module is imported on first use."""
    task: Task = get_spec(modality).load("task")()
    return task


def pipeline_class(modality: str) -> type[UnitePipeline]:
    """The pipeline of a modality."""
    found: type[UnitePipeline] = get_spec(modality).load("pipeline")
    return found


def pipeline_called(name: object) -> type[UnitePipeline] | None:
    """The pipeline whose class has this name, as model_index.json gives it; None if none has."""
    specs = map(get_spec, MODALITIES.names())
    return next((pipeline_class(spec.name) for spec in specs if spec.pipeline_name == name), None)


def task_of(pipeline: UnitePipeline) -> Task:
    """The task of a pipeline's modality."""
    return get_task(pipeline.encoder.config.modality)


def in_batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last one shorter."""
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

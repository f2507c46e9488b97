"""The outer half of a modality: its data, files, pictures and metrics.

`Modality` (modality.py) is what the network needs; a `Task` is what the commands need. The defaults
here are for data points that are arrays of one shape, read by the readers of `things`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from openunite.analysis.base import Analyses
from openunite.catalog import get_spec
from openunite.data.readers import files_of, read_files
from openunite.files import whole_file, write_rows
from openunite.pipelines.base import UnitePipeline
from openunite.training.config import MEMORY, RunConfig
from openunite.training.loader import TrainingData
from openunite.training.sizes import get_size

Metrics = dict[str, float | int | str]


@dataclass(frozen=True)
class Options:
    """What can be asked of `train` beside settings and data; None was not asked.

    `set` holds assignments "section.field=value". `fresh` is True for a recipe, whose sizes may be
    chosen by a look at the data, and False for settings from a file.
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
    set: tuple[str, ...] = ()
    fresh: bool = True


Tell = Callable[[str, str], None]  # name of something that is left out, and why


@dataclass(frozen=True)
class Analyzed:
    """A run that is analyzed by a look at `count` of its data points."""

    folder: Path
    config: RunConfig
    pipeline: Any
    count: int


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

    `things` are the data points in words, and what readers of them hold; `sources` are what `train`
    can read them from. `outputs` are the suffixes that `sample` can write ("" is a folder of files
    with the suffix `file_suffix`), `pair_outputs` those of `reconstruct`, the first being the
    default; `train_options` and `sample_options` name the options of these commands that only some
    modalities have. `parts` are folders in a run that hold a part of its evaluation each: their
    names lead those of its metrics.
    """

    things: ClassVar[str]
    sources: ClassVar[str] = "a file or a folder"
    parts: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = (".npz", "")
    file_suffix: ClassVar[str] = ".npy"
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

    def plan_for(self, config: RunConfig) -> RunConfig:
        """The settings for planning a run, with something assumed where the data decide."""
        return config

    def describe(self, config: RunConfig) -> str:
        """The data points and their size in a few words: "images of 28 x 28 pixels"."""
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

    def measuring(self, config: RunConfig, folder: Path) -> dict[str, str]:
        """Commands that measure more, by the word in the name of the file that each writes."""
        return {"card": f"`openunite evaluate {folder}` for a protocol card"}

    def analyses(self, run: "Analyzed", other: tuple[str, Any] | None) -> Analyses:
        """What `analyze` can say of a run beside its training and its weights.

        `other` are the name and the pipeline of a run to compare with.
        """
        reason = f"none of them is known for {self.things}"
        return Analyses(missing={"layers, latents and samples": reason})

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

    def write(
        self, path: Path, samples: Collection[Any], labels: Sequence[int] | None = None
    ) -> int:
        """Write samples into a file whose suffix is in `outputs`; return how many it holds.

        There may be more samples than fit into memory: take them one after the other, once.
        """
        rows = (np.asarray(sample) for sample in samples)
        others = {} if labels is None else {"labels": np.array(labels)}
        with whole_file(path) as file:
            write_rows(file, "samples", rows, len(samples), **others)
        return len(samples)

    def write_one(self, path: Path, sample: Any) -> None:
        """Write one sample into a folder, as a file of its own with the suffix `file_suffix`."""
        with whole_file(path) as file:
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
        """Write inputs beside outputs, or the outputs alone under the names of the inputs."""
        with whole_file(path) as file:
            np.savez(file, inputs=np.stack(inputs), outputs=np.stack(outputs))

    def compare(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
        """How far outputs are from inputs, in words."""
        error = np.abs(np.stack(inputs) - np.stack(outputs)).mean()
        return f"mean absolute error {error:.4g}"

    def check_output(self, pipeline: Any, suffix: str) -> None:  # noqa: B027
        """ValueError or ImportError if the model's samples cannot go into a file of this kind."""


def source_of(config: RunConfig, data: Any = None) -> Any:
    """What to open: `data`, or the source of the settings. ValueError if that was in memory."""
    if data is None and config.data.source == MEMORY:
        raise ValueError(
            "the data of this run were in the memory of a program; give them again, as `data` from "
            "Python or as a file with --data"
        )
    return config.data.source if data is None else data


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

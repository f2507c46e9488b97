"""What `evaluate` and `sweep` share: a model, real images, an extractor, and where results go."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from torch import Tensor

from openunite.cache import cache_folder
from openunite.commands import Evaluate, Sweep
from openunite.data.images.dataset import ImageData, ImageDataset, open_images
from openunite.evaluation.images.feature_sets import (
    cached_features,
    choose,
    extract,
    made_with,
    read_features,
)
from openunite.evaluation.images.features import EXTRACTORS, extractor_for, load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.sets import images_in, sample_shards
from openunite.evaluation.images.table import ImageMetrics
from openunite.evaluation.sections import ModelSection
from openunite.evaluation.shards import ProcessGroup, Shards, identity
from openunite.flow.solvers import Solver
from openunite.loading import load_pipeline
from openunite.modalities.card import model_section
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.training.config import load_config
from openunite.training.device import choose_device, on_cpu

MIN_IMAGES = 4  # KID, precision and recall need as many
MAX_SEED = 2**63
SWEEP_FRACTION, SWEEP_MIN, SWEEP_MAX = 0.1, 1000, 10_000
Split = Literal["test", "train", "sweep"]


@dataclass(frozen=True)
class SampleSettings:
    """Which samples to draw, and overrides of the pipeline's solver and number of steps."""

    count: int
    first_seed: int
    solver: Solver | None = None
    num_steps: int | None = None
    labels: str = "balanced"

    def identity(self) -> dict[str, Any]:
        """What decides sample i. Balanced samples do not depend on their number."""
        values = dict(vars(self))
        if self.labels == "balanced":
            del values["count"]
        return values


@dataclass(frozen=True)
class EvaluationContext:
    """A model, the data it is compared with, an extractor, and the folder for results.

    `model` is taken before the weights are converted to another precision.
    """

    source: str
    pipeline: ImagePipeline
    model: ModelSection
    data: ImageData
    extractor: Extractor
    home: Path
    batch_size: int
    group: ProcessGroup

    @property
    def folder(self) -> Path:
        """Intermediate shards, so an interrupted evaluation can resume."""
        return self.home / "evaluation"

    @property
    def num_classes(self) -> int:
        return int(self.pipeline.encoder.config.num_classes)

    @property
    def has_classes(self) -> bool:
        """True if the extractor's logits stand for the classes of the model and of the data."""
        known = self.extractor.class_names
        return bool(known) and known == self.model.class_names == self.data.class_names

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipeline.device)

    # ---- real images ----------------------------------------------------------------------

    def rows(self, split: Split) -> tuple[ImageDataset, Tensor]:
        """The data set and the row numbers of a split."""
        if split == "test":
            return self.data.test, torch.arange(len(self.data.test))
        train = self.data.train
        if split == "train":
            return train, torch.arange(len(train))
        count = min(max(round(SWEEP_FRACTION * len(train)), SWEEP_MIN), SWEEP_MAX)
        return train, choose(len(train), count, seed=1)

    def real(self, split: Split, max_images: int | None = None) -> tuple[Path, Tensor]:
        """The file with features of real images (for `read_features`), and their labels."""
        dataset, rows = self.rows(split)
        if max_images is not None:
            rows = rows[choose(len(rows), max_images, seed=2)]
        shape = self.pipeline.encoder.config.modality_config
        size = {name: shape[name] for name in ("height", "width", "channels")}
        what = {"data": self.data.fingerprint, "split": split, **size}
        found = cached_features(
            self.extractor,
            lambda positions: dataset.batch(rows[list(positions)])["data"],
            len(rows),
            what,
            cache_folder() / "features",
            self.folder,
            self.group,
            self.batch_size,
            self.device,
        )
        return found, dataset.labels[rows]

    def metrics(self, reference: Path) -> ImageMetrics:
        """The metrics of sets of images against real images."""
        return ImageMetrics(read_features(reference), self.has_classes)

    # ---- samples --------------------------------------------------------------------------

    def labels(self, settings: SampleSettings) -> Tensor | None:
        """One label per sample, or None without classes."""
        if self.num_classes == 0:
            return None
        if settings.labels == "balanced":
            return torch.arange(settings.count) % self.num_classes
        generator = torch.Generator().manual_seed(settings.first_seed)
        return torch.randint(self.num_classes, (settings.count,), generator=generator)

    def samples(self, settings: SampleSettings, scale: float) -> tuple[Shards, Shards]:
        """Samples at a guidance scale, and their features, in shards."""
        config, pipeline = self.pipeline.config, self.pipeline
        decisive = {
            "model": [self.model.encoder, self.model.decoder],
            "sampling": settings.identity(),
            "scale": scale,
            "defaults": [config[name] for name in _DEFAULTS],
            "precision": str(pipeline.dtype),
        }

        def sample(labels: Tensor | None, seeds: range) -> tuple[Tensor, int]:
            nfe = 0

            def count(evaluations: int, t: float, z: Tensor) -> None:
                nonlocal nfe
                nfe = evaluations

            images = pipeline.generate(
                labels,
                seeds=seeds,
                guidance_scale=scale,
                solver=settings.solver,
                num_inference_steps=settings.num_steps,
                callback=count,
            )
            return images, nfe

        shards = self.shards("samples", decisive, settings.count)
        labels, words = self.labels(settings), f"sampling, guidance scale {scale:g}"
        sample_shards(sample, labels, settings.first_seed, shards, self.group, words)
        return shards, self.features(shards, f"features, guidance scale {scale:g}")

    def features(self, shards: Shards, words: str) -> Shards:
        """Features of the images in shards, beside them."""
        name = f"{self.extractor.name}-{self.extractor.checksum[:12]}"
        place = Shards(shards.folder / name, shards.count, shards.size)
        return extract(self.extractor, images_in(shards), place, self.group, words, self.device)

    def shards(self, kind: str, settings: dict[str, Any], count: int) -> Shards:
        """Shards in a folder named after these settings, the batch size and the code."""
        key = identity({**settings, "batch": self.batch_size, **made_with(self.device)})
        return Shards(self.folder / f"{kind}-{key}", count, self.batch_size)


_DEFAULTS = (
    "solver",
    "num_inference_steps",
    "time_shift",
    "eta",
    "temperature",
    "guidance_interval",
)


def open_context(
    command: Evaluate | Sweep,
    *,
    weights: str = "ema",
    precision: str = "no",
    extractor: Extractor | None = None,
) -> EvaluationContext:
    """Load everything; a given `extractor` replaces the one that the command names.

    ValueError, FileNotFoundError, ImportError: what is wrong or missing.
    """
    _check(command)
    source = command.source
    home = Path(command.output).parent if command.output else home_of(source)
    state = PartialState(cpu=on_cpu())
    group = ProcessGroup(state.process_index, state.num_processes, state.wait_for_everyone)
    pipeline = load_pipeline(source, weights)
    if not isinstance(pipeline, ImagePipeline):
        raise ValueError(
            f"{source} is no model of images; score molecules and crystals in files: "
            "openunite evaluate molecules --help"
        )
    pipeline.to(state.device if state.num_processes > 1 else choose_device())
    model = model_section(pipeline, Path(source).name, _which_weights(source, weights))
    if precision == "bf16":
        pipeline.to(torch.bfloat16)
    name = command.data or run_data(source)
    chosen = extractor_for(name) if command.extractor == "auto" else command.extractor
    with state.main_process_first():  # one process fills the caches for all
        if extractor is None:
            extractor = load_extractor(chosen, command.extractor_weights)
        data = _open_data(name, pipeline, source, progress=state.is_main_process)
    compared = len(data.train if isinstance(command, Sweep) else data.test)
    if min(compared, len(data.train)) < MIN_IMAGES:
        raise ValueError(
            f"{name} has {len(data.train)} training and {len(data.test)} test images, expected "
            f"at least {MIN_IMAGES} of each to compare with; name other images with --data"
        )
    batch_size = command.batch_size
    return EvaluationContext(source, pipeline, model, data, extractor, home, batch_size, group)


def _check(command: Evaluate | Sweep) -> None:
    """Raise ValueError for options that would fail late or give no numbers."""
    if command.num_samples < 10:
        raise ValueError(f"--num-samples must be at least 10, got {command.num_samples}")
    if command.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {command.batch_size}")
    if command.output and Path(command.output).is_dir():
        raise ValueError(f"--output must be a file to write, got the folder {command.output}")
    if command.extractor != "auto":
        EXTRACTORS.get(command.extractor)  # refuses an unknown name
    if isinstance(command, Sweep):
        return
    if not math.isfinite(command.guidance_scale or 0.0):
        raise ValueError(f"--guidance-scale must be finite, got {command.guidance_scale}")
    if not 0 <= command.seed <= MAX_SEED - command.num_samples:
        raise ValueError(
            f"--seed must lie between 0 and 2^63 minus the number of samples, got {command.seed}"
        )


def _which_weights(source: str, asked: str) -> str:
    """The weights asked for of a run; for a pipeline those that its record names, if any."""
    record = Path(source) / "conversion.json"
    if record.is_file():
        return str(json.loads(record.read_text()).get("averaging", "unknown"))
    return asked if run_folder(source) else "unknown"


def run_folder(source: str) -> Path | None:
    """The folder of a run, if `source` is a run or the pipeline inside one."""
    path = Path(source)
    for folder in (path, path.parent):
        if (folder / "config.yaml").is_file():
            return folder
    return None


def home_of(source: str) -> Path:
    """The default folder for results: the run, a local pipeline, or the working directory."""
    path = Path(source)
    return run_folder(source) or (path if path.is_dir() else Path())


def run_data(source: str) -> str:
    """The name of a run's data. Raise ValueError if `source` is no run."""
    run = run_folder(source)
    if run is None:
        raise ValueError(f"{source} is no run, so its images are not known; name them with --data")
    return load_config(run / "config.yaml").data.source


def trained_on(source: str) -> str | None:
    """The fingerprint of a run's data, None if it is unknown."""
    run = run_folder(source)
    record = run / "data.json" if run else None
    if record is None or not record.is_file():
        return None
    return str(json.loads(record.read_text())["fingerprint"])


def _open_data(name: str, pipeline: ImagePipeline, source: str, *, progress: bool) -> ImageData:
    """Open images at the model's size, split as in training if `source` is a run."""
    shape, run = pipeline.encoder.config.modality_config, run_folder(source)
    split: dict[str, Any] = {}
    if run is not None:
        data = load_config(run / "config.yaml").data
        split = {"holdout_share": data.holdout_share, "holdout_max": data.holdout_max}
        split |= {"max_bad_share": data.max_bad_share}
    size = {key: shape[key] for key in ("height", "width", "channels")}
    return open_images(name, **size, min_side=shape["patch_size"], **split, progress=progress)

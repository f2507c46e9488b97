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
from openunite.evaluation.images.pixels import pixel_ratios
from openunite.evaluation.images.sets import images_in, sample_shards
from openunite.evaluation.images.table import MANIFOLD, MIN_IMAGES, ImageMetrics
from openunite.evaluation.sections import ModelSection
from openunite.evaluation.shards import ProcessGroup, Shards, identity
from openunite.modalities.card import model_section
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import UnitePipeline
from openunite.runs import Run
from openunite.training.config import MEMORY
from openunite.training.device import choose_device, on_cpu

MAX_SEED = 2**63
SWEEP_FRACTION, SWEEP_MIN, SWEEP_MAX = 0.1, 1000, 10_000
Split = Literal["test", "train", "sweep"]


@dataclass(frozen=True)
class SampleSettings:
    """Which samples to draw, and overrides of the pipeline's solver and number of steps."""

    count: int
    first_seed: int
    solver: str | None = None
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
            lambda positions: dataset.batch(rows[list(positions)]).data,
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

    def pixels(self, images: Split | Shards) -> dict[str, float]:
        """Ratios of the pixels of images in shards, or of at most MANIFOLD real ones of a split."""
        patch = self.pipeline.modality.settings.patch_size
        if isinstance(images, Shards):
            return pixel_ratios((shard["images"] for shard in images.read()), patch)
        dataset, rows = self.rows(images)
        parts = rows[choose(len(rows), MANIFOLD)].split(self.batch_size)
        return pixel_ratios((dataset.batch(part).data for part in parts), patch)

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
        pipeline = self.pipeline
        decisive = {
            "model": [self.model.encoder, self.model.decoder],
            "sampling": settings.identity(),
            "scale": scale,
            "defaults": pipeline.sampling.to_dict(),
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


def open_context(
    command: Evaluate | Sweep,
    pipeline: UnitePipeline,
    data: Any = None,
    extractor: Extractor | None = None,
) -> EvaluationContext:
    """Open the data and load an extractor, the one that the command names unless one is given.

    `data` are images in memory; None for those that the command or the run names. ValueError,
    FileNotFoundError, ImportError: what is wrong or missing.
    """
    _check(command)
    source, weights = command.source, getattr(command, "weights", "ema")
    home = Path(command.output).parent if command.output else home_of(source)
    state = PartialState(cpu=on_cpu())
    group = ProcessGroup(state.process_index, state.num_processes, state.wait_for_everyone)
    if not isinstance(pipeline, ImagePipeline):
        raise ValueError(f"{source} is no model of images, for which sweep is made")
    pipeline.to(state.device if state.num_processes > 1 else choose_device())
    model = model_section(pipeline, Path(source).name, _which_weights(source, weights))
    if getattr(command, "precision", "no") == "bf16":
        pipeline.to(torch.bfloat16)
    name = command.data or (run_data(source) if data is None else MEMORY)
    chosen = extractor_for(name) if command.extractor == "auto" else command.extractor
    with state.main_process_first():  # one process fills the caches for all
        if extractor is None:
            extractor = load_extractor(chosen, command.extractor_weights)
        shown, images = state.is_main_process, name if data is None else data
        found = _open_data(images, pipeline, source, progress=shown)
    compared = len(found.train if isinstance(command, Sweep) else found.test)
    if min(compared, len(found.train)) < MIN_IMAGES:
        raise ValueError(
            f"{name} has {len(found.train)} training and {len(found.test)} test images, expected "
            f"at least {MIN_IMAGES} of each to compare with; name other images with --data"
        )
    return EvaluationContext(
        source, pipeline, model, found, extractor, home, command.batch_size, group
    )


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
    return asked if Run.around(source) else "unknown"


def home_of(source: str) -> Path:
    """The default folder for results: the run, a local pipeline, or the working directory."""
    run, path = Run.around(source), Path(source)
    return run.folder if run else path if path.is_dir() else Path()


def run_data(source: str) -> str:
    """The name of a run's data. Raise ValueError if `source` is no run."""
    run = Run.around(source)
    if run is None:
        raise ValueError(f"{source} is no run, so its images are not known; name them with --data")
    return str(run.source())


def trained_on(source: str) -> str | None:
    """The fingerprint of a run's data, None if it is unknown."""
    run = Run.around(source)
    return run.record.get("fingerprint") if run else None


def _open_data(images: Any, pipeline: ImagePipeline, source: str, *, progress: bool) -> ImageData:
    """Open images at the model's size, split as in training if `source` is a run."""
    shape, run = pipeline.modality.settings, Run.around(source)
    split: dict[str, Any] = {}
    if run is not None:
        data = run.config.data
        split = {"holdout_share": data.holdout_share, "holdout_max": data.holdout_max}
        split |= {"max_bad_share": data.max_bad_share}
    size = {key: getattr(shape, key) for key in ("height", "width", "channels")}
    return open_images(images, **size, min_side=shape.patch_size, **split, progress=progress)

"""What `evaluate` and `sweep` share: a model, real images, an extractor, and where work is kept."""

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
from openunite.evaluation.images.features import load_extractor
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.sets import Judge, images_in, sample_shards
from openunite.evaluation.shards import Crew, Shards, identity
from openunite.loading import load_pipeline, weights_checksum
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.training.config import load_config
from openunite.training.device import choose_device, on_cpu

EMBEDDED = "fashion-mnist-mini"
LEAST_IMAGES = 4  # what KID, precision and recall need
MOST_SEED = 2**63
SWEEP_SHARE, SWEEP_LEAST, SWEEP_MOST = 0.1, 1000, 10_000
Split = Literal["test", "train", "sweep"]


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn, where it departs from the pipeline's settings."""

    count: int
    first_seed: int
    solver: str | None = None
    num_steps: int | None = None
    labels: str = "balanced"

    def identity(self) -> dict[str, Any]:
        """What decides sample i. With classes in turn, more samples begin with the same ones."""
        values = dict(vars(self))
        if self.labels == "balanced":
            del values["count"]
        return values


@dataclass(frozen=True)
class Trial:
    """A model on trial: its pipeline, the data it is judged by, an extractor, where results go.

    `checksum` is of all weights, as they were before they were brought to a precision. `weights`
    says which they are: "ema", "raw" or, where nothing tells, "unknown".
    """

    source: str
    pipeline: ImagePipeline
    checksum: str
    data: ImageData
    extractor: Extractor
    home: Path
    batch_size: int
    crew: Crew
    weights: str

    @property
    def folder(self) -> Path:
        """For work that a killed job goes on with."""
        return self.home / "evaluation"

    @property
    def num_classes(self) -> int:
        return int(self.pipeline.encoder.config.num_classes)

    @property
    def judges_classes(self) -> bool:
        """Whether the extractor's logits stand for the classes of the model and of the data."""
        known = self.extractor.class_names
        return bool(known) and known == self.class_names == self.data.class_names

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the model; empty where it has no classes, or none with names."""
        return tuple(self.pipeline.config.class_names)

    @property
    def device(self) -> torch.device:
        return torch.device(self.pipeline.device)

    # ---- real images ----------------------------------------------------------------------

    def rows(self, split: Split) -> tuple[ImageDataset, Tensor]:
        """Which images of which part of the data a split is."""
        if split == "test":
            return self.data.test, torch.arange(len(self.data.test))
        train = self.data.train
        if split == "train":
            return train, torch.arange(len(train))
        share = min(max(round(SWEEP_SHARE * len(train)), SWEEP_LEAST), SWEEP_MOST)
        return train, choose(len(train), share, seed=1)

    def real(self, split: Split, most: int | None = None) -> tuple[Path, Tensor]:
        """The cached features of real images (for `read_features`), and their labels."""
        dataset, rows = self.rows(split)
        if most is not None:
            rows = rows[choose(len(rows), most, seed=2)]
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
            self.crew,
            self.batch_size,
            self.device,
        )
        return found, dataset.labels[rows]

    def judge(self, reference: Path) -> Judge:
        """A judge by real images."""
        return Judge(read_features(reference), self.extractor.label, self.judges_classes)

    # ---- samples --------------------------------------------------------------------------

    def labels(self, sampling: Sampling) -> Tensor | None:
        """One label per sample, or None without classes."""
        if self.num_classes == 0:
            return None
        if sampling.labels == "balanced":
            return torch.arange(sampling.count) % self.num_classes
        generator = torch.Generator().manual_seed(sampling.first_seed)
        return torch.randint(self.num_classes, (sampling.count,), generator=generator)

    def samples(self, sampling: Sampling, scale: float) -> tuple[Shards, Shards]:
        """Samples at a guidance scale and their features, both in shards that stay."""
        pipeline = self.pipeline
        settings = {
            "model": self.checksum,
            "sampling": sampling.identity(),
            "scale": scale,
            "defaults": pipeline.sampling.to_dict(),
            "precision": str(pipeline.dtype),
        }

        def sample(labels: Tensor | None, seeds: range, scale: float) -> tuple[Tensor, int]:
            evaluations = 0

            def count(number: int, t: float, z: Tensor) -> None:
                nonlocal evaluations
                evaluations = number

            images = pipeline.generate(
                labels,
                seeds=seeds,
                guidance_scale=scale,
                solver=sampling.solver,
                num_inference_steps=sampling.num_steps,
                callback=count,
            )
            return images, evaluations

        shards = self.shards("samples", settings, sampling.count)
        labels = self.labels(sampling)
        sample_shards(sample, labels, sampling.first_seed, scale, shards, self.crew)
        return shards, self.features(shards, f"features, guidance scale {scale:g}")

    def features(self, shards: Shards, words: str) -> Shards:
        """Features of the images in shards, beside them."""
        name = f"{self.extractor.name}-{self.extractor.checksum[:12]}"
        place = Shards(shards.folder / name, shards.count, shards.size)
        return extract(self.extractor, images_in(shards), place, self.crew, words, self.device)

    def shards(self, kind: str, settings: dict[str, Any], count: int) -> Shards:
        """A folder for work that these settings, the model, the batch size and the code decide."""
        key = identity({**settings, "batch": self.batch_size, **made_with(self.device)})
        return Shards(self.folder / f"{kind}-{key}", count, self.batch_size)


def open_trial(
    command: Evaluate | Sweep,
    *,
    weights: str = "ema",
    precision: str = "no",
    extractor: Extractor | None = None,
) -> Trial:
    """Load everything; `extractor` takes the place of the one that the command names.

    ValueError, FileNotFoundError, ImportError: what is wrong or missing.
    """
    _check(command)
    source = command.source
    home = Path(command.output).parent if command.output else home_of(source)
    state = PartialState(cpu=on_cpu())
    crew = Crew(state.process_index, state.num_processes, state.wait_for_everyone)
    pipeline = load_pipeline(source, weights)
    if not isinstance(pipeline, ImagePipeline):
        raise ValueError(
            f"{source} is no model of images; score molecules and crystals in files: "
            "openunite evaluate molecules --help"
        )
    pipeline.to(state.device if state.num_processes > 1 else choose_device())
    checksum = weights_checksum(pipeline)
    if precision == "bf16":
        pipeline.to(torch.bfloat16)
    name = command.data or run_data(source)
    judge = extractor_for(name) if command.extractor == "auto" else command.extractor
    with state.main_process_first():  # one fills the caches for all
        if extractor is None:
            extractor = load_extractor(judge, command.extractor_weights)
        opened = _open_data(name, pipeline, source, progress=state.is_main_process)
    tested = len(opened.train if isinstance(command, Sweep) else opened.test)
    if min(tested, len(opened.train)) < LEAST_IMAGES:
        raise ValueError(
            f"{name} has {len(opened.train)} training and {len(opened.test)} test images, expected "
            f"at least {LEAST_IMAGES} of each to compare with; name other images with --data"
        )
    batch, kept = command.batch_size, _weights_kept(source, weights)
    return Trial(source, pipeline, checksum, opened, extractor, home, batch, crew, kept)


def _check(command: Evaluate | Sweep) -> None:
    """ValueError for what would fail at the end, or give no numbers."""
    if command.num_samples < 10:
        raise ValueError(f"--num-samples must be at least 10, got {command.num_samples}")
    if command.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {command.batch_size}")
    if command.output and Path(command.output).is_dir():
        raise ValueError(f"--output must be a file to write, got the folder {command.output}")
    if isinstance(command, Sweep):
        return
    if not math.isfinite(command.guidance_scale or 0.0):
        raise ValueError(f"--guidance-scale must be finite, got {command.guidance_scale}")
    if not 0 <= command.seed <= MOST_SEED - command.num_samples:
        raise ValueError(
            f"--seed must lie between 0 and 2^63 less the number of samples, got {command.seed}"
        )


def extractor_for(data: str) -> str:
    """The extractor that judges models of this data unless another is named; it works offline."""
    return "fashion" if data == EMBEDDED else "efficientnet-lite0"


def _weights_kept(source: str, asked: str) -> str:
    """What was asked of a run; a pipeline holds one set of weights, and may have a record of it."""
    record = Path(source) / "conversion.json"
    if record.is_file():
        return str(json.loads(record.read_text()).get("averaging", "unknown"))
    return asked if run_folder(source) else "unknown"


def run_folder(source: str) -> Path | None:
    """The folder of a run, if `source` is one or the pipeline inside."""
    path = Path(source)
    for folder in (path, path.parent):
        if (folder / "config.yaml").is_file():
            return folder
    return None


def home_of(source: str) -> Path:
    """Where results go by default: the run, else a local pipeline's folder, else here."""
    path = Path(source)
    return run_folder(source) or (path if path.is_dir() else Path())


def run_data(source: str) -> str:
    """What a run was trained on. ValueError if that is not known."""
    run = run_folder(source)
    if run is None:
        raise ValueError(f"{source} is no run, so its images are not known; name them with --data")
    return load_config(run / "config.yaml").data.source


def trained_on(source: str) -> str | None:
    """The fingerprint of a run's data, None if it is not known."""
    run = run_folder(source)
    record = run / "data.json" if run else None
    if record is None or not record.is_file():
        return None
    return str(json.loads(record.read_text())["fingerprint"])


def _open_data(name: str, pipeline: ImagePipeline, source: str, *, progress: bool) -> ImageData:
    """At the model's size, split as in training where `source` is a run."""
    shape, run = pipeline.encoder.config.modality_config, run_folder(source)
    split: dict[str, Any] = {}
    if run is not None:
        data = load_config(run / "config.yaml").data
        split = {"holdout_share": data.holdout_share, "holdout_max": data.holdout_max}
        split |= {"max_bad_share": data.max_bad_share}
    size = {key: shape[key] for key in ("height", "width", "channels")}
    return open_images(name, **size, min_side=shape["patch_size"], **split, progress=progress)

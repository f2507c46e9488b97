"""Signals for openunite: a modality, its files, a metric, a recipe; a solver; an extractor."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openunite.batch import Batch
from openunite.catalog import ModalitySpec
from openunite.data.holdout import Skipped
from openunite.data.readers import Reader
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.evaluation.measured import Measured, Vocabulary
from openunite.flow.solvers import velocity
from openunite.modalities.arrays import ArrayMetric, ArrayTask
from openunite.modality import Embedder, Head, Modality
from openunite.nn.embeddings import sincos_table
from openunite.sampling import Option, Sampling, Solver
from openunite.training.config import DataConfig, ModelConfig, RunConfig


@dataclass(frozen=True)
class SignalSettings:
    """Signals of `length` numbers, cut into patches."""

    length: int
    patch: int = 8

    def __post_init__(self) -> None:
        if self.patch < 1 or self.length % self.patch:
            raise ValueError(f"length {self.length} must be a multiple of patch {self.patch}")


class PatchEmbedder(Embedder):
    def __init__(self, settings: SignalSettings, width: int) -> None:
        super().__init__()
        self.num_tokens = settings.length // settings.patch
        self.projection = nn.Linear(settings.patch, width)

    def forward(self, signals: Tensor) -> Tensor:
        return self.projection(signals.unflatten(1, (self.num_tokens, -1)))


class PatchHead(Head):
    def __init__(self, settings: SignalSettings, width: int) -> None:
        super().__init__()
        self.num_tokens = settings.length // settings.patch
        self.projection = nn.Linear(width, settings.patch)
        table = sincos_table(torch.arange(self.num_tokens), width)
        self.register_buffer("positions", table, persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        return self.projection(states).flatten(1)


class SignalModality(Modality):
    Settings = SignalSettings

    def embedder(self, width: int) -> PatchEmbedder:
        return PatchEmbedder(self.settings, width)

    def head(self, width: int) -> PatchHead:
        return PatchHead(self.settings, width)

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"l2": (output.float() - batch.data).square().mean()}


def spectral_distance(samples: np.ndarray, real: np.ndarray) -> Measured:
    means = [np.abs(np.fft.rfft(part)).mean(axis=0) for part in (samples, real)]
    return Measured(float(np.abs(means[0] - means[1]).mean()), total=len(samples))


METRICS = (ArrayMetric("spectra", "spectral distance", "lower", compute=spectral_distance),)
VOCABULARY = Vocabulary(METRICS)


class SignalTask(ArrayTask):
    things = "signals"
    metrics = METRICS

    def fit(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        return {**settings, "length": shape[0]}


def read_sig(path: Path) -> Iterator[np.ndarray | Skipped]:
    """SIG1, the number of signals, their length, float32; NaN marks a dead sensor."""
    content = path.read_bytes()
    if content[:4] != b"SIG1":
        raise ValueError("expected a file that starts with SIG1")
    count, length = np.frombuffer(content, "<u4", 2, 4)
    for i, row in enumerate(np.frombuffer(content, "<f4", offset=12).reshape(count, length)):
        dead = np.isnan(row).any()
        yield Skipped(f"{path.name}, signal {i}", "the sensor was dead") if dead else row


READER = Reader((".sig",), ("signals",), read_sig)


def sines() -> RunConfig:
    """Signals from your own files. Cost: seconds on one core."""
    return RunConfig(
        *("sines", "signal", {}, 0, DataConfig("", max_bad_share=0.01)),
        model=ModelConfig(8, 8, 32, 2, 2, 32, 1, 2, 64, 2, 1),
        steps=200,
        batch_size=32,
        sampling=Sampling("two-stage", 6, 1.0, 1.0),
    )


def two_stage(denoiser, z, grid, *, noise_sampler, callback, at=0.5):  # type: ignore[no-untyped-def]
    for number, (now, then) in enumerate(pairwise(grid), start=1):
        inside = now + at * (then - now)
        first = velocity(denoiser, z, z.new_full((len(z),), now))
        middle = z + (inside - now) * first
        second = velocity(denoiser, middle, z.new_full((len(z),), inside))
        z = z + (then - now) * (first + (second - first) / (2 * at))
        if callback is not None:
            callback(2 * number, then, z)
    return z


WHERE = Option(0.5, 0.1, 0.9, "where in the step the second evaluation is made")
TWO_STAGE = Solver("openunite_signals:two_stage", lambda n: 2 * n, "order 2", {"at": WHERE})


def histograms(images: Tensor) -> Tensor:
    return torch.stack([torch.histc(image, 16, 0, 1) / image.numel() for image in images])


def load_histogram(weights: str | Path | None) -> CallableExtractor:
    return CallableExtractor("histogram", 16, "1", histograms)


SPEC = ModalitySpec(
    name="signal",
    modality="openunite_signals:SignalModality",
    pipeline="openunite.pipelines.tensors:TensorPipeline",
    task="openunite_signals:SignalTask",
    recipes={"sines": "openunite_signals:sines"},
)

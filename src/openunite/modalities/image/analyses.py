"""The analyses of `openunite analyze` for runs on images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openunite.analysis.base import Analyses, Analysis, Found
from openunite.analysis.interpolation import Interpolation, interpolate_latents
from openunite.analysis.latents import LatentStatistics, latent_statistics
from openunite.analysis.neighbors import Memorization, Nearest, search
from openunite.analysis.passes import (
    LATENTS,
    Activations,
    LatentAgreement,
    LayerSimilarity,
    PassComparison,
    ResidualNorms,
    compare_passes,
)
from openunite.analysis.probe import Probe, probe_latents
from openunite.analysis.trajectory import Trajectory, follow
from openunite.batch import NOTHING, Evidence
from openunite.data.images.dataset import ImageData, ImageDataset
from openunite.flow.random import permutation, seeded_normal
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.modalities.image.task import ImageTask
from openunite.runs import Run
from openunite.task import Analyzed
from openunite.training.config import RunConfig

IMAGE_ANALYSES: tuple[type[Analysis], ...] = (
    LayerSimilarity,
    LatentAgreement,
    ResidualNorms,
    Probe,
    LatentStatistics,
    Trajectory,
    Interpolation,
    Memorization,
)
_BATCH = 250
_ACTIVATIONS = 2**28  # bytes that the activations of one batch may take
_MOST_SEARCHED = 20_000  # training images searched for copies
_SEARCH_SIDE = 32  # larger images are shrunk to about this before they are compared
_FOLLOWED, _PAIRS, _SHOWN = 10, 8, 10


@dataclass(frozen=True)
class ImageStudy:
    """A trained model and the data it was trained on; `num_images` sets the effort."""

    config: RunConfig
    pipeline: ImagePipeline
    data: ImageData
    num_images: int

    @classmethod
    def open(
        cls, run: Path, config: RunConfig, pipeline: ImagePipeline, num_images: int
    ) -> "ImageStudy":
        """Open the data of a run. ValueError if they are not what it was trained on."""
        data = ImageTask().open(config, config.data.source, progress=True)
        record = Run(run).record
        if record and record["fingerprint"] != data.fingerprint:
            raise ValueError(
                f"the data behind {config.data.source} changed since {run} was trained; restore "
                "them, or train again"
            )
        return cls(config, pipeline, data, num_images)

    @property
    def stages(self) -> dict[str, Callable[[], list[Analysis]]]:
        """The analyses to run by name, in order."""
        stages: dict[str, Callable[[], list[Analysis]]] = {
            "layers": lambda: list(self.passes()),
            "probe": lambda: [self.probe()],
            "latents": lambda: [latent_statistics(self.latents)],
            "trajectory": lambda: [self.trajectory()],
            "interpolation": lambda: [self.interpolation()],
            "memorization": lambda: [self.memorization()],
        }
        return {name: stage for name, stage in stages.items() if name not in self._left_out}

    @property
    def missing(self) -> dict[str, str]:
        """Titles of the analyses that are left out, and why."""
        titles = {kind.name: kind.title for kind in IMAGE_ANALYSES}
        return {titles[name]: reason for name, reason in self._left_out.items()}

    @property
    def _left_out(self) -> dict[str, str]:
        few = self.data.num_classes < 2
        return {"probe": "the data have no labels of two or more classes"} if few else {}

    # ---- analyses -------------------------------------------------------------------------

    def passes(self) -> PassComparison:
        """Compare tokenizing and denoising, both without a class: only the observation differs."""
        start = seeded_normal(torch.tensor([0]), *self.pipeline.latent_shape)

        def activations(z: Tensor, t: Tensor, data: Tensor | None) -> Activations:
            kept: dict[str, Tensor] = {}
            latents = self.pipeline.encoder(z, t, Evidence(observation=data), intermediates=kept)
            return kept | {LATENTS: latents}

        def tokenize(data: Tensor) -> Activations:
            noise = start.to(data.device).expand(len(data), -1, -1)
            return activations(noise, noise.new_zeros(len(data)), self.pipeline.preprocess(data))

        with torch.no_grad():
            return compare_passes(self._noised(), tokenize, lambda z, t: activations(z, t, None))

    def similar(self) -> list[Analysis]:
        """Only the similarity of the layers in both passes."""
        return [self.passes().similarity]

    def probe(self) -> Probe:
        """Probes of the class, fitted on training images and tested on held-out ones."""
        train, train_labels = _some(self.data.train, 2 * self.num_images)
        test, test_labels = _some(self.data.test, self.num_images)
        return probe_latents(
            (self._encode(train), self._encode(test)),
            (_small(train), _small(test)),
            (train_labels, test_labels),
        )

    def trajectory(self) -> Trajectory:
        """Follow samples of the classes in turn step by step, with the pipeline's settings."""
        pipeline, sampling = self.pipeline, self.pipeline.sampling
        seeds, device = torch.arange(_FOLLOWED), pipeline.device
        evidence = self._evidence(_FOLLOWED)
        times, states = [0.0], [seeded_normal(seeds, *pipeline.latent_shape).to(device)]

        def keep(_: int, t: float, state: Tensor) -> None:
            times.append(t)
            states.append(state)

        solver = "heun" if sampling.row.adaptive else None  # adaptive ones have no fixed steps
        pipeline.sample_latents(evidence, seeds, callback=keep, solver=solver)
        low, high = sampling.guidance_interval
        predict = pipeline.denoiser(evidence, sampling.guidance_scale, (low, high))
        with torch.no_grad():
            return follow(times, states, predict, pipeline.decode_tensor)

    def interpolation(self) -> Interpolation:
        """Interpolate between the latents of random pairs of held-out images."""
        latents = self.latents[: 2 * _PAIRS].to(self.pipeline.device)
        half = len(latents) // 2
        first, second = latents[:half], latents[half : 2 * half]
        return interpolate_latents(first, second, self.pipeline.decode_tensor)

    def memorization(self) -> Memorization:
        """Nearest training images of samples, and of reconstructions of held-out images."""
        train = self.data.train
        count = max(_FOLLOWED, self.num_images // 10)
        samples = torch.cat([self._sample(part) for part in torch.arange(count).split(_BATCH)])
        test, _ = _some(self.data.test, count)
        outputs = self._decode(self._encode(test))
        rows = _rows(train, _MOST_SEARCHED)
        queries = torch.cat([_small(samples), _small(outputs)])
        found = search(queries, (_small(train.batch(part).data) for part in rows.split(500)))
        own = Nearest(found.distances[:count], found.indices[:count])
        closest = own.distances[:, 0].argsort()[:_SHOWN]
        kin = train.batch(rows[own.indices[closest, 0]]).data.float() / 255.0
        return Memorization(
            samples=own,
            held_out=Nearest(found.distances[count:], found.indices[count:]),
            num_train=len(rows),
            shown=torch.stack([samples[closest], kin]),
        )

    # ---- what they share ------------------------------------------------------------------

    @cached_property
    def images(self) -> Tensor:
        """Held-out images uint8 (N, C, H, W), and training images after them if they are few."""
        held_out, _ = _some(self.data.test, self.num_images)
        if len(held_out) == self.num_images:
            return held_out
        return torch.cat([held_out, _some(self.data.train, self.num_images - len(held_out))[0]])

    @cached_property
    def latents(self) -> Float[Tensor, "n k c"]:
        """The latents of `images`."""
        return self._encode(self.images)

    def _noised(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of images, and of the noise (B, K, C) to mix with their latents."""
        size = self.config.model
        bytes_each = 8 * (size.depth + 2) * size.num_registers * size.width
        batch = max(32, min(_BATCH, _ACTIVATIONS // bytes_each))
        for rows in torch.arange(len(self.images)).split(batch):
            noise = seeded_normal(rows, *self.pipeline.latent_shape)
            yield self.images[rows], noise.to(self.pipeline.device)

    def _encode(self, images: Tensor) -> Float[Tensor, "n k c"]:
        return torch.cat([self.pipeline.encode(part).cpu() for part in images.split(_BATCH)])

    def _decode(self, latents: Tensor) -> Float[Tensor, "n c h w"]:
        parts = latents.to(self.pipeline.device).split(_BATCH)
        return torch.cat([self.pipeline.decode_tensor(part).cpu() for part in parts])

    def _sample(self, seeds: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        classes = self.config.num_classes
        labels = (seeds % classes).tolist() if classes else None
        return self.pipeline.generate(labels, seeds=seeds.tolist()).cpu()

    def _evidence(self, count: int) -> Evidence:
        """Evidence of the classes in turn; none for data without classes."""
        if not self.config.num_classes:
            return NOTHING
        labels = torch.arange(count) % self.config.num_classes
        return Evidence.of_classes(labels.to(self.pipeline.device))


def image_analyses(run: Analyzed, other: tuple[str, Any] | None) -> Analyses:
    """All analyses of a run on images, and the layers of the other run on the same images."""
    study = ImageStudy.open(run.folder, run.config, run.pipeline, run.count)
    stages = {name: partial(_found, stage) for name, stage in study.stages.items()}
    if other is not None:
        beside, name = _beside(study, *other), other[0]
        stages["layers of the other"] = partial(_found, beside.similar, "_compare", name)
    return Analyses(stages, study.missing)


def _found(stage: Callable[[], list[Analysis]], suffix: str = "", of: str = "") -> list[Found]:
    return [Found(result, suffix, of) for result in stage()]


def _beside(study: ImageStudy, name: str, other: Any) -> ImageStudy:
    """The other model on the same data. ValueError if it is for images of another size."""
    shape = study.pipeline.encoder.config.modality_config
    sides = ("height", "width", "channels")
    found = other.encoder.config.modality_config
    if not isinstance(other, ImagePipeline) or any(found[x] != shape[x] for x in sides):
        raise ValueError(
            f"--compare {name} was not trained on images of {shape['height']} x {shape['width']} "
            f"with {shape['channels']} channels, as this run was; name another run"
        )
    return replace(study, pipeline=other)


def _rows(data: ImageDataset, count: int) -> Int[Tensor, " n"]:
    """At most `count` positions in fixed random order, since sources are often sorted by class."""
    return permutation(len(data), seed=0, epoch=0)[:count]


def _some(data: ImageDataset, count: int) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, C, H, W) and labels (N,)."""
    batch = data.batch(_rows(data, count))
    return batch.data, data.labels[batch.index]


def _small(images: Tensor) -> Float[Tensor, "n c h w"]:
    """Images as floats in [0, 1], shrunk by averaging square blocks of pixels."""
    pixels = images.float() / 255.0 if images.dtype == torch.uint8 else images
    factor = max(images.shape[2:]) // _SEARCH_SIDE
    return torch.nn.functional.avg_pool2d(pixels, factor) if factor > 1 else pixels

"""Quality against network evaluations: the Frechet distance of samples, solver by solver.

The judge is the packaged clothing classifier, so the model must be one of 28 x 28 grey images
trained on the embedded set. All settings start from the same seeds, so they differ by the solver
alone. What was measured is kept in the results file, with what it was measured of; the same command
goes on where it stopped.
"""

import json
import statistics as numbers
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import samples_through
from openunite.batch import Evidence
from openunite.data.images.arrays import fashion_mnist_mini
from openunite.evaluation.frechet import GaussianStatistics, frechet_distance, statistics
from openunite.evaluation.images.features.base import module_checksum
from openunite.evaluation.images.features.fashion import (
    FashionClassifier,
    load_fashion_classifier,
)
from openunite.files import write_json
from openunite.flow.random import seeded_normal
from openunite.flow.solvers import solve
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.sampling import Sampling

REFERENCE = "heun 1 100"
PER_STEP = {"euler": 1, "heun": 2, "multistep": 1, "sde": 1}
TOLERANCE = 0.02


@dataclass(frozen=True)
class Point:
    """One setting: a solver, its time shift and its evaluations (those of dopri5 are its own)."""

    solver: str
    shift: float
    evaluations: int

    @property
    def key(self) -> str:
        return f"{self.solver} {self.shift:g} {self.evaluations}"


class Judge:
    """Frechet distance to the held-out images in the classifier's features."""

    def __init__(self, device: torch.device) -> None:
        self.classifier: FashionClassifier = load_fashion_classifier().to(device)
        source = fashion_mnist_mini()
        assert source.held_out is not None
        rows = [i for i, held in enumerate(source.held_out) if held]
        pixels = torch.stack([torch.as_tensor(source.items.read(i)) for i in rows])
        self.reference = self._statistics(pixels[:, None].float().to(device) / 255.0)

    def distance(self, images: Tensor) -> float:
        return frechet_distance(self._statistics(images), self.reference)

    @torch.no_grad()
    def _statistics(self, images: Tensor) -> GaussianStatistics:
        return statistics(torch.cat([self.classifier.features(x) for x in images.split(250)]))


@torch.no_grad()
def draw(
    pipeline: ImagePipeline, point: Point, seeds: Tensor, batch: int
) -> tuple[Tensor, float, float]:
    """Images of these seeds, classes in turn; solver evaluations and network passes per image.

    A pass is the network on one image: an evaluation costs one, and two where guidance acts.
    """
    scale, interval = pipeline.sampling.guidance_scale, pipeline.sampling.guidance_interval
    images, taken, evaluations = [], 0, 0

    def note(count: int, t: float, z: Tensor) -> None:
        nonlocal taken
        taken = count

    with samples_through(type(pipeline.encoder)) as passed:
        for part in seeds.split(batch):
            labels = (part % pipeline.encoder.config.num_classes).to(pipeline.device)
            evidence = Evidence.of_classes(labels)

            def noise(draw: int, seeds: Tensor = part) -> Tensor:
                return seeded_normal(seeds, *pipeline.latent_shape, draw=draw).to(pipeline.device)

            latents = solve(
                pipeline.denoiser(evidence, scale, interval),
                noise(0),
                Sampling(
                    point.solver,
                    max(1, point.evaluations // PER_STEP.get(point.solver, 1)),
                    point.shift,
                    options={"eta": 1.0} if point.solver == "sde" else {},
                ),
                noise_sampler=noise,
                callback=note,
            )
            evaluations += taken * len(part)
            images.append(pipeline.decode_tensor(latents))
    return torch.cat(images), evaluations / len(seeds), sum(passed) / len(seeds)


def measure(
    pipeline: ImagePipeline,
    points: list[Point],
    samples: int,
    seeds: int,
    batch: int,
    file: Path,
) -> dict[str, list[dict[str, float]]]:
    """Rows by the key of a point, one per seed; kept in `file` as they come.

    ValueError if the file holds another model or other settings.
    """
    judge = Judge(pipeline.device)
    measured = identity(pipeline, judge, samples, batch)
    found = _read(file, measured)
    for seed in range(seeds):
        for point in points:
            rows = found.setdefault(point.key, [])
            if len(rows) > seed:
                continue
            drawn = torch.arange(seed * samples, (seed + 1) * samples)
            images, evaluations, passes = draw(pipeline, point, drawn, batch)
            distance = judge.distance(images)
            rows.append({"distance": distance, "evaluations": evaluations, "passes": passes})
            write_json(file, {"identity": measured, "points": found})
            print(f"seed {seed} {point.key}: {distance:.4f} ({evaluations:.0f})", flush=True)
    return found


def identity(
    pipeline: ImagePipeline, judge: Judge, samples: int, batch: int
) -> dict[str, int | float | str | list[float]]:
    """All that decides a row besides its point and its seed; `samples` are the seeds of each."""
    return {
        "encoder": module_checksum(pipeline.encoder),
        "decoder": module_checksum(pipeline.decoder),
        "guidance_scale": float(pipeline.sampling.guidance_scale),
        "guidance_interval": list(map(float, pipeline.sampling.guidance_interval)),
        "judge": module_checksum(judge.classifier),
        "samples": samples,
        "batch": batch,  # dopri5 shares its steps over a batch
    }


def _read(file: Path, measured: dict[str, Any]) -> dict[str, list[dict[str, float]]]:
    """The rows of an earlier call; none without a file."""
    if not file.is_file():
        return {}
    kept = json.loads(file.read_text())
    known = kept.get("identity", {})
    if other := [name for name, value in measured.items() if known.get(name) != value]:
        raise ValueError(
            f"{file} was measured with another {', '.join(other)}; move it away, or choose "
            "another --name"
        )
    points: dict[str, list[dict[str, float]]] = kept["points"]
    return points


@dataclass(frozen=True)
class Mean:
    """Mean over seeds and its standard error."""

    key: str
    distance: float
    error: float
    evaluations: float
    passes: float


def means(rows: dict[str, list[dict[str, float]]]) -> dict[str, Mean]:
    """Of points measured with at least two seeds."""
    return {key: _mean(key, found) for key, found in rows.items() if len(found) > 1}


def _mean(key: str, rows: list[dict[str, float]]) -> Mean:
    distances = [row["distance"] for row in rows]
    error = numbers.stdev(distances) / len(distances) ** 0.5
    evaluations, passes = (numbers.mean(r[k] for r in rows) for k in ("evaluations", "passes"))
    return Mean(key, numbers.mean(distances), error, evaluations, passes)


def cheapest(found: dict[str, Mean], reference: str = REFERENCE) -> Mean:
    """The fewest passes within 2 % of the reference, or one standard error where that is more."""
    best = found[reference]
    bound = best.distance + max(TOLERANCE * best.distance, best.error)
    within = [mean for mean in found.values() if mean.distance <= bound]
    return min(within, key=lambda mean: (mean.passes, mean.distance))


def grid(solvers: list[str], shifts: list[float], evaluations: list[int]) -> Iterator[Point]:
    """Every combination that can be: Heun takes two evaluations a step, but one in the last."""
    for count in evaluations:
        for solver in solvers:
            if count % PER_STEP[solver] == 0:
                yield from (Point(solver, shift, count) for shift in shifts)

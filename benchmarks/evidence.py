"""What the measurements of generation under evidence share: images, masks, scores, records."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import RESULTS, describe
from openunite.evaluation.frechet import GaussianStatistics, frechet_distance, statistics
from openunite.evaluation.images.features import load_extractor
from openunite.evaluation.images.metrics import psnr
from openunite.files import write_json
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.runs import Run, load_pipeline
from openunite.task import get_task

BATCH = 250

# A run and what is known of it -> parts of its values, each one as soon as it is measured.
Measure = Callable[["Bench", Mapping[str, Any]], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class Bench:
    """A run with its test and training images, floats (N, C, H, W) in [0, 1], and a judge."""

    pipeline: ImagePipeline
    images: Tensor
    labels: Tensor
    train: Tensor
    reference: GaussianStatistics
    judge: Any

    @classmethod
    def of(cls, folder: str, count: int) -> "Bench":
        """The run in a folder, with at most `count` test images."""
        config = Run(Path(folder)).config
        data: Any = get_task(config.modality).open(config, config.data.source, progress=False)
        test = data.test.batch(range(min(count, len(data.test)))).data.float() / 255.0
        train = data.train.batch(range(len(data.train))).data.float() / 255.0
        judge, pipeline = load_extractor("fashion"), load_pipeline(folder)
        assert isinstance(pipeline, ImagePipeline)
        reference = statistics(judge(test).values)
        return cls(pipeline, test, data.test.labels[: len(test)], train, reference, judge)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        settings = self.pipeline.modality.settings
        return settings.height // settings.patch_size, settings.width // settings.patch_size

    def fd(self, images: Tensor) -> float:
        """The Frechet distance to the test images."""
        return frechet_distance(statistics(self.judge(images).values), self.reference)

    def accuracy(self, images: Tensor) -> float:
        """The share of images that the judge takes for the class of the test image."""
        found = self.judge(images).logits.argmax(1)
        return float((found == self.labels).float().mean())

    def pixels(self, patches: Tensor) -> Tensor:
        """Patches (N, rows x columns) as pixels (N, H, W)."""
        size = self.pipeline.modality.settings.patch_size
        grid = patches.reshape(-1, *self.grid)
        return grid.repeat_interleave(size, 1).repeat_interleave(size, 2)

    def sample(self, first: int = 0, known: Tensor | None = None, **options: Any) -> Tensor:
        """One sample for each test image, which shows the known pixels if there are any."""
        parts = []
        labels = options.pop("labels", None)
        for rows in batches(len(self.images)):
            if known is not None:
                options |= {"observed": self.images[rows], "mask": known[rows]}
            seeds = range(first + rows.start, first + rows.stop)
            own = None if labels is None else labels[rows]
            parts.append(self.pipeline.generate(own, seeds=seeds, **options))
        return torch.cat(parts)


def batches(count: int) -> Iterator[slice]:
    """Slices of at most `BATCH` rows."""
    return (slice(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


def visible_patches(grid: tuple[int, int], count: int, number: int, seed: int = 0) -> Tensor:
    """`number` of the patches of each image, in random places (count, N)."""
    uniform = torch.rand(count, grid[0] * grid[1], generator=torch.Generator().manual_seed(seed))
    return uniform.argsort(dim=1).argsort(dim=1) < number


def half_images(grid: tuple[int, int], count: int) -> Tensor:
    """The upper, lower, left or right half of the patches, in turn (count, N)."""
    row, column = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    upper, left = row < grid[0] // 2, column < grid[1] // 2
    kinds = torch.stack([upper, ~upper, left, ~left]).flatten(1)
    return kinds[torch.arange(count) % 4]


def hidden_psnr(images: Tensor, target: Tensor, known: Tensor) -> tuple[float, float]:
    """dB of the hidden pixels: the mean over images, and that of the mean squared error."""
    hidden = ~known[:, None].expand_as(target)
    count = hidden.flatten(1).sum(1)
    assert bool((count == count[0]).all())
    pair = [x[hidden].reshape(len(target), 1, 1, -1) for x in (images, target)]
    error = float((pair[0] - pair[1]).square().mean())
    return float(psnr(*pair).mean()), -10.0 * torch.tensor(error).log10().item()


def record(name: str, folders: list[str], module: str, count: int, measure: Measure) -> None:
    """Measure what is missing of each run, and write RESULTS/NAME.json after every part."""
    command = f"python -m benchmarks.{module} --runs {' '.join(folders)} --count {count}"
    for folder in folders:
        seed = str(Run(Path(folder)).config.seed)
        found = held(name).get(seed, {})
        for part in measure(Bench.of(folder, count), found):
            found |= part
            keep(name, command, seed, found)


def held(name: str) -> dict[str, dict[str, Any]]:
    """What RESULTS/NAME.json holds: the values of each seed."""
    path = RESULTS / f"{name}.json"
    seeds: dict[str, Any] = json.loads(path.read_text())["seeds"] if path.is_file() else {}
    return seeds


def keep(name: str, command: str, seed: str, values: Mapping[str, Any]) -> None:
    """Write the values of one seed into RESULTS/NAME.json, and print them."""
    machine = describe(torch.device("cpu"))
    about = {"command": command, "commit": machine["commit"], "machine": machine}
    write_json(RESULTS / f"{name}.json", about | {"seeds": held(name) | {seed: dict(values)}})
    print(seed, values, flush=True)


def options() -> argparse.Namespace:
    """Finished runs, and how many test images are used."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--count", type=int, default=1000)
    return parser.parse_args()

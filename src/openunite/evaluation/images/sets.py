"""Samples and reconstructions of a model in shards, and the metrics of what was found in them.

Knows no pipeline: a model is two functions. Images are kept and judged with 8 bits, as a file
would hold them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor

from openunite.evaluation.feature_metrics import (
    IS_SPLITS,
    KID_SUBSETS,
    NEIGHBORS,
    class_accuracy,
    inception_score,
    kernel_distance,
    kid_subset_size,
    precision_recall,
)
from openunite.evaluation.frechet import frechet_distance
from openunite.evaluation.images.feature_sets import KEPT, FeatureSet, Fetch, choose
from openunite.evaluation.images.metrics import l1, psnr, ssim
from openunite.evaluation.images.perceptual import Distance
from openunite.evaluation.shards import Crew, Shards

Sample = Callable[[Tensor | None, range, float], tuple[Tensor, int]]
"""(labels (B,) or None, seeds, guidance scale) -> (images in [0, 1], evaluations of the solver)."""
Reconstruct = Callable[[Tensor], Tensor]  # images in [0, 1] -> the same
MANIFOLD = 10_000  # features that precision, recall and KID take of a larger set
SETTINGS = {
    "pixels": "8 bits",
    "precision_recall": f"{NEIGHBORS} neighbors, at most {MANIFOLD} images of each set",
    "inception_score": f"{IS_SPLITS} splits, at most {KEPT} images",
    "class_accuracy": f"at most {KEPT} images",
    "ssim": "Gaussian windows of 11 pixels, deviation 1.5",
}


def kid_settings(samples: int, reference: int) -> str:
    """How KID was taken of so many images."""
    return f"{KID_SUBSETS} subsets of {kid_subset_size(samples, reference)}, seed 0"


def sample_shards(
    sample: Sample,
    labels: Int[Tensor, " n"] | None,
    first_seed: int,
    scale: float,
    shards: Shards,
    crew: Crew,
) -> Shards:
    """Sample i has seed `first_seed` + i and labels[i]: the same at every guidance scale."""

    def make(positions: range) -> dict[str, Tensor]:
        seeds = range(first_seed + positions.start, first_seed + positions.stop)
        chosen = None if labels is None else labels[positions.start : positions.stop]
        images, evaluations = sample(chosen, seeds, scale)
        return {
            "images": to_bytes(images),
            "evaluations": torch.full((len(positions),), evaluations),
        }

    return shards.make(make, crew, f"sampling, guidance scale {scale:g}")


def reconstruct_shards(
    reconstruct: Reconstruct, fetch: Fetch, shards: Shards, crew: Crew, lpips: Distance | None
) -> Shards:
    """Reconstructions with their errors: psnr_db, l1, ssim and, where there is one, lpips."""

    def make(positions: range) -> dict[str, Tensor]:
        real = fetch(positions).float() / 255.0
        kept = to_bytes(reconstruct(real))
        found = kept.float() / 255.0
        errors = {"psnr_db": psnr(found, real), "l1": l1(found, real)}
        if min(real.shape[2:]) >= 11:
            errors["ssim"] = ssim(found, real)
        if lpips is not None:
            with torch.no_grad():
                errors["lpips"] = lpips(found, real)
        return {"images": kept, **errors}

    return shards.make(make, crew, "reconstructing")


def images_in(shards: Shards) -> Fetch:
    """The images of shards by position, for an extractor that works in the same shards."""

    def fetch(positions: range) -> Tensor:
        number = positions.start // shards.size
        images: Tensor = load_file(shards.path(number))["images"]
        return images

    return fetch


def to_bytes(images: Tensor) -> Tensor:
    """[0, 1] -> uint8, rounded, on the CPU. ValueError for NaN and infinity."""
    values = images.detach().cpu().float()
    if not values.isfinite().all():
        bad = int((~values.isfinite()).flatten(1).any(1).sum())
        raise ValueError(
            f"expected finite images, got {bad} of {len(values)} with NaN or infinity; try a "
            "smaller guidance scale, --precision no, or an earlier checkpoint"
        )
    return (values.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


@dataclass(frozen=True)
class Judge:
    """Turns sets of features into numbers; `distance` is what a Frechet distance is called."""

    reference: FeatureSet
    distance: str
    judges_classes: bool

    def judge(self, found: FeatureSet, labels: Tensor | None) -> dict[str, float]:
        """All metrics of generated (or other real) images against the reference.

        Fewer images than the score has splits have no score.
        """
        metrics = {self.distance: frechet_distance(found.gaussian, self.reference.gaussian)}
        mine, theirs = (
            s.features[choose(len(s.features), MANIFOLD)] for s in (found, self.reference)
        )
        kid = kernel_distance(mine, theirs)
        metrics |= {"KID": kid.mean, "KID deviation": kid.deviation}
        both = precision_recall(mine, theirs)
        metrics |= {"precision": both.precision, "recall": both.recall}
        if found.logits is not None:
            if len(found.logits) >= IS_SPLITS:
                score = inception_score(found.logits)
                name = "inception score" if self.distance == "FID" else "score (as IS)"
                metrics |= {name: score.mean, f"{name} deviation": score.deviation}
            if labels is not None and self.judges_classes:
                metrics["class accuracy"] = class_accuracy(found.logits, labels[found.rows])
        return metrics


def reconstruction_metrics(
    shards: Shards, found: FeatureSet, originals: FeatureSet, distance: str
) -> dict[str, float]:
    """rFD against the very images that were reconstructed, and the means of the errors."""
    sums: dict[str, float] = {}
    for shard in shards.read():
        for name, values in shard.items():
            if name != "images":
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
    metrics = {f"r{distance}": frechet_distance(found.gaussian, originals.gaussian)}
    return metrics | {name: total / shards.count for name, total in sorted(sums.items())}


def evaluations_in(shards: Shards) -> float:
    """Mean number of evaluations of the solver per sample."""
    total = sum(float(shard["evaluations"].double().sum()) for shard in shards.read())
    return total / shards.count

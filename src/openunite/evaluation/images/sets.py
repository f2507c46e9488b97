"""Samples and reconstructions of a model in shards.

A model is two functions here; no pipeline is needed. Images are kept and measured with 8 bits, as
an image file would hold them.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor

from openunite.evaluation.images.feature_sets import Fetch
from openunite.evaluation.images.table import PairMetric
from openunite.evaluation.measured import Measured
from openunite.evaluation.shards import ProcessGroup, Shards

Sample = Callable[[Tensor | None, range], tuple[Tensor, int]]
"""(labels (B,) or None, seeds) -> (images in [0, 1], NFE)."""
Reconstruct = Callable[[Tensor], Tensor]  # images in [0, 1] -> the same


def sample_shards(
    sample: Sample,
    labels: Int[Tensor, " n"] | None,
    first_seed: int,
    shards: Shards,
    group: ProcessGroup,
    words: str,
) -> Shards:
    """Draw samples; sample i has seed `first_seed` + i and labels[i]."""

    def make(positions: range) -> dict[str, Tensor]:
        seeds = range(first_seed + positions.start, first_seed + positions.stop)
        chosen = None if labels is None else labels[positions.start : positions.stop]
        images, nfe = sample(chosen, seeds)
        return {"images": to_bytes(images), "nfe": torch.full((len(positions),), nfe)}

    return shards.make(make, group, words)


def reconstruct_shards(
    reconstruct: Reconstruct,
    fetch: Fetch,
    shards: Shards,
    group: ProcessGroup,
    metrics: Sequence[PairMetric],
) -> Shards:
    """Reconstruct images and measure each against its original."""

    def make(positions: range) -> dict[str, Tensor]:
        real = fetch(positions).float() / 255.0
        kept = to_bytes(reconstruct(real))
        found = kept.float() / 255.0
        return {"images": kept, **{metric.name: metric.compute(found, real) for metric in metrics}}

    return shards.make(make, group, "reconstructing")


def images_in(shards: Shards) -> Fetch:
    """A function from positions to the images in shards, for an extractor with the same shards."""

    def fetch(positions: range) -> Tensor:
        number = positions.start // shards.size
        images: Tensor = load_file(shards.path(number))["images"]
        return images

    return fetch


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as rounded uint8 on the CPU. Raise ValueError for NaN and infinity."""
    values = images.detach().cpu().float()
    if not values.isfinite().all():
        bad = int((~values.isfinite()).flatten(1).any(1).sum())
        raise ValueError(
            f"expected finite images, got {bad} of {len(values)} with NaN or infinity; try a "
            "smaller guidance scale, --precision no, or an earlier checkpoint"
        )
    return (values.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def pair_means(shards: Shards, metrics: Sequence[PairMetric]) -> dict[str, Measured]:
    """Means over the pairs that `reconstruct_shards` measured."""
    sums = dict.fromkeys((metric.name for metric in metrics), 0.0)
    for shard in shards.read():
        for name in sums:
            sums[name] += float(shard[name].double().sum())
    return {name: Measured(total / shards.count) for name, total in sums.items()}


def mean_nfe(shards: Shards) -> Measured:
    """Mean number of network evaluations per sample."""
    total = sum(float(shard["nfe"].double().sum()) for shard in shards.read())
    return Measured(total / shards.count)

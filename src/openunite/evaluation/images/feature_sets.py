"""Features of a set of images: computed in shards, and cached for real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openunite.evaluation.frechet import FeatureAccumulator, GaussianStatistics, statistics
from openunite.evaluation.images.features.base import Extractor, tensor_checksum
from openunite.evaluation.shards import ProcessGroup, Shards, identity, write_tensors

PROTOCOL = 2  # add one when the same settings would give other samples, features or shards
KEPT = 50_000  # features kept of a larger set; the Gaussian is always of the full set
Fetch = Callable[[range], Tensor]  # positions -> images uint8 (B, C, H, W)


@dataclass(frozen=True)
class FeatureSet:
    """The Gaussian of all features; features and logits of the images `rows`, at most KEPT.

    `pixels` of the same images, shrunk, are there where copies are looked for.
    """

    gaussian: GaussianStatistics
    features: Float[Tensor, "n d"]
    rows: Int[Tensor, " n"]
    logits: Float[Tensor, "n k"] | None = None
    pixels: Float[Tensor, "n p"] | None = None

    def part(self, most: int) -> "FeatureSet":
        """At most so many of the images, a fixed random part, with a Gaussian of their own."""
        chosen = choose(len(self.features), most, seed=2)
        values, rows = self.features[chosen], self.rows[chosen]
        logits, pixels = (x if x is None else x[chosen] for x in (self.logits, self.pixels))
        return FeatureSet(statistics(values), values, rows, logits, pixels)


def extract(
    extractor: Extractor,
    fetch: Fetch,
    shards: Shards,
    group: ProcessGroup,
    words: str,
    device: torch.device | str = "cpu",
) -> Shards:
    """Compute features of images by position, in shards; `gather` reads them as one set."""

    def make(positions: range) -> dict[str, Tensor]:
        images = fetch(positions)
        if images.dtype != torch.uint8:
            raise ValueError(f"expected images as bytes, got {images.dtype}; quantize them first")
        found = extractor(images.to(device).float() / 255.0)
        return {"features": found.values} | (
            {} if found.logits is None else {"logits": found.logits}
        )

    return shards.make(make, group, words)


def features_of(
    extractor: Extractor, images: Float[Tensor, "n c h w"], batch_size: int
) -> FeatureSet:
    """The features of images in memory."""
    found = [extractor(batch) for batch in images.split(batch_size)]
    values = torch.cat([each.values for each in found])
    logits = [each.logits for each in found if each.logits is not None]
    rows = torch.arange(len(values))
    return FeatureSet(statistics(values), values, rows, torch.cat(logits) if logits else None)


def gather(shards: Shards) -> FeatureSet:
    """Read shards of features in order; of more than KEPT images a fixed random part is kept."""
    keep = choose(shards.count, KEPT)
    accumulator = FeatureAccumulator()
    features, logits = [], []
    for number, shard in enumerate(shards.read()):
        accumulator.update(shard["features"])
        positions = shards.positions(number)
        inside = keep[(keep >= positions.start) & (keep < positions.stop)] - positions.start
        features.append(shard["features"][inside])
        if "logits" in shard:
            logits.append(shard["logits"][inside])
    kept = torch.cat(logits) if logits else None
    return FeatureSet(accumulator.statistics(), torch.cat(features), keep, kept)


def cached_features(
    extractor: Extractor,
    fetch: Fetch,
    count: int,
    what: Mapping[str, Any],
    cache: Path,
    work: Path,
    group: ProcessGroup,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> Path:
    """The file with the features of real images, by data, size and extractor.

    It is computed if it is missing or its checksum is wrong; shards of unfinished work are kept
    below `work`. `read_features` reads it.
    """
    settings = {**what, "count": count, "extractor": extractor.name, "weights": extractor.checksum}
    settings["batch"] = batch_size  # sums in another order differ in the last bits
    settings |= made_with(device)
    path = cache / f"{identity(settings)}.safetensors"
    group.wait()  # all processes look before one writes
    known = load_features(path) is not None
    group.wait()
    if known:
        return path
    shards = Shards(work / f"real-{path.stem}", count, batch_size)
    extract(extractor, fetch, shards, group, f"features, {what.get('split', 'all')}", device)
    if group.is_main:
        try:
            save_features(path, gather(shards))
        except FileNotFoundError:  # another evaluation was faster, and has removed the shards
            if load_features(path) is None:
                raise
        shards.remove()
    group.wait()
    return path


def made_with(device: torch.device | str) -> dict[str, Any]:
    """What code and device make samples and features; those of another are not reused."""
    return {"protocol": PROTOCOL, "torch": torch.__version__, "device": torch.device(device).type}


def save_features(path: Path, found: FeatureSet) -> None:
    """Write one file atomically, with a sha256 over its numbers."""
    tensors = {
        "mean": found.gaussian.mean,
        "covariance": found.gaussian.covariance,
        "count": torch.tensor(found.gaussian.count),
        "features": found.features,
        "rows": found.rows,
    }
    if found.logits is not None:
        tensors["logits"] = found.logits
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {"sha256": tensor_checksum(tensors)})


def read_features(path: Path) -> FeatureSet:
    """The set in a file of `cached_features`."""
    found = load_features(path)
    if found is None:
        raise FileNotFoundError(f"{path} was removed or altered during the evaluation; start again")
    return found


def load_features(path: Path) -> FeatureSet | None:
    """A set that `save_features` wrote; None if the file is missing, damaged or altered."""
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            digest = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    if digest != tensor_checksum(tensors):
        return None
    gaussian = GaussianStatistics(tensors["mean"], tensors["covariance"], int(tensors["count"]))
    return FeatureSet(gaussian, tensors["features"], tensors["rows"], tensors.get("logits"))


def choose(count: int, most: int, seed: int = 0) -> Int[Tensor, " n"]:
    """All positions below `count`, or an ordered random subset of `most`, decided by the seed."""
    if count <= most:
        return torch.arange(count)
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    return torch.from_numpy(np.sort(chosen))

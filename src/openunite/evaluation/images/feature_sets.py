"""What metrics need to know of a set of images: made in shards, and cached for real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openunite.evaluation.frechet import FeatureAccumulator, GaussianStatistics
from openunite.evaluation.images.features.base import Extractor, tensor_checksum
from openunite.evaluation.shards import Crew, Shards, identity, write_tensors

PROTOCOL = 1  # raise it by one when the same settings come to give other samples or features
KEPT = 50_000  # features kept of a larger set; the Gaussian is always that of all
Fetch = Callable[[range], Tensor]  # positions -> images uint8 (B, C, H, W)


@dataclass(frozen=True)
class FeatureSet:
    """The Gaussian of all features, and (of at most KEPT images) features and logits by `rows`."""

    gaussian: GaussianStatistics
    features: Float[Tensor, "n d"]
    rows: Int[Tensor, " n"]
    logits: Float[Tensor, "n k"] | None = None


def extract(
    extractor: Extractor,
    fetch: Fetch,
    shards: Shards,
    crew: Crew,
    words: str,
    device: torch.device | str = "cpu",
) -> Shards:
    """Features of images by position, in shards that stay; `gather` makes a set of them."""

    def make(positions: range) -> dict[str, Tensor]:
        images = fetch(positions)
        if images.dtype != torch.uint8:
            raise ValueError(f"expected images as bytes, got {images.dtype}; quantize them first")
        found = extractor(images.to(device).float() / 255.0)
        return {"features": found.values} | (
            {} if found.logits is None else {"logits": found.logits}
        )

    return shards.make(make, crew, words)


def gather(shards: Shards) -> FeatureSet:
    """Read shards of features in order; of many images a fixed random part is kept."""
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
    crew: Crew,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> Path:
    """The file that remembers a set of real images, by data, size and extractor; made if need be.

    Shards of unfinished work are kept below `work`. A file whose checksum does not fit is made
    anew; `read_features` reads it.
    """
    settings = {**what, "count": count, "extractor": extractor.name, "weights": extractor.checksum}
    settings["batch"] = batch_size  # sums in another order differ in the last bits
    settings |= made_with(device)
    path = cache / f"{identity(settings)}.safetensors"
    crew.wait()  # so that all look before one writes
    known = load_features(path) is not None
    crew.wait()
    if known:
        return path
    shards = Shards(work / f"real-{path.stem}", count, batch_size)
    extract(extractor, fetch, shards, crew, f"real images, {what.get('split', 'all')}", device)
    if crew.leads:
        try:
            save_features(path, gather(shards))
        except FileNotFoundError:  # another evaluation was faster, and has removed the shards
            if load_features(path) is None:
                raise
        shards.remove()
    crew.wait()
    return path


def made_with(device: torch.device | str) -> dict[str, Any]:
    """The code that makes samples and features, and where: none are taken from another."""
    return {"protocol": PROTOCOL, "torch": torch.__version__, "device": torch.device(device).type}


def save_features(path: Path, found: FeatureSet) -> None:
    """One file, whole or not at all, with a sha256 over its numbers."""
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
    """A set that `cached_features` has just made or found."""
    found = load_features(path)
    if found is None:
        raise FileNotFoundError(f"{path} was removed or altered while it was needed; start again")
    return found


def load_features(path: Path) -> FeatureSet | None:
    """What `save_features` wrote; None if it is not there, damaged or altered."""
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
    """All positions below `count` or, in order, a random part of `most` that the seed decides."""
    if count <= most:
        return torch.arange(count)
    chosen = np.random.default_rng(seed).choice(count, most, replace=False)
    return torch.from_numpy(np.sort(chosen))

"""Sets of features: equal to all at once, cached by content, remade where a cache was altered."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from openunite.evaluation.frechet import statistics
from openunite.evaluation.images import feature_sets
from openunite.evaluation.images.feature_sets import (
    cached_features,
    choose,
    extract,
    gather,
    load_features,
    read_features,
)
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.evaluation.shards import ProcessGroup, Shards

IMAGES = torch.randint(
    0, 256, (40, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def pool(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.mean((2, 3)), images.flatten(1)[:, :5]


EXTRACTOR = CallableExtractor("pool", 3, "1", pool)


class Fetch:
    def __init__(self, images: Tensor = IMAGES) -> None:
        self.images, self.count = images, 0

    def __call__(self, positions: range) -> Tensor:
        self.count += len(positions)
        return self.images[list(positions)]


def cached(fetch: Fetch, folder: Path, **what: object) -> feature_sets.FeatureSet:
    settings = {"data": "abc", "split": "test"} | what
    work = folder.parent / "work"
    path = cached_features(EXTRACTOR, fetch, 40, settings, folder, work, ProcessGroup(), 16)
    assert not any(work.iterdir())  # the shards are gone
    return read_features(path)


@pytest.mark.parametrize("size", [7, 40])
def test_shards_give_what_all_at_once_gives(tmp_path: Path, size: int) -> None:
    found = gather(extract(EXTRACTOR, Fetch(), Shards(tmp_path, 40, size), ProcessGroup(), "pool"))
    values, logits = pool(IMAGES.float() / 255.0)
    expected = statistics(values)
    torch.testing.assert_close(found.features, values)
    torch.testing.assert_close(found.logits, logits)
    torch.testing.assert_close(found.gaussian.mean, expected.mean)
    torch.testing.assert_close(found.gaussian.covariance, expected.covariance)
    assert found.rows.tolist() == list(range(40))


def test_of_many_images_a_part_is_kept_but_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_sets, "KEPT", 15)
    found = gather(extract(EXTRACTOR, Fetch(), Shards(tmp_path, 40, 7), ProcessGroup(), "pool"))
    values, logits = pool(IMAGES.float() / 255.0)
    assert found.gaussian.count == 40
    assert len(found.rows) == 15
    torch.testing.assert_close(found.features, values[found.rows])
    torch.testing.assert_close(found.logits, logits[found.rows])


def test_a_second_look_reads_no_image(tmp_path: Path) -> None:
    fetch = Fetch()
    first = cached(fetch, tmp_path / "cache")
    assert fetch.count == 40
    second = cached(fetch, tmp_path / "cache")
    assert fetch.count == 40
    assert torch.equal(first.gaussian.covariance, second.gaussian.covariance)
    assert torch.equal(first.features, second.features)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    cached(fetch, tmp_path / "cache", split="train")
    assert fetch.count == 80


def test_features_of_other_code_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Fetch()
    cached(fetch, tmp_path / "cache")
    monkeypatch.setattr(feature_sets, "PROTOCOL", feature_sets.PROTOCOL + 1)
    cached(fetch, tmp_path / "cache")
    assert fetch.count == 80
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    cached(fetch, tmp_path / "cache")
    assert fetch.count == 120


def test_an_altered_cache_is_not_believed(tmp_path: Path) -> None:
    fetch = Fetch()
    honest = cached(fetch, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    tensors = load_file(path)
    tensors["mean"] = tensors["mean"] + 1e-9
    save_file(tensors, path, metadata={"sha256": "0" * 64})
    assert load_features(path) is None
    assert torch.equal(cached(fetch, tmp_path / "cache").gaussian.mean, honest.gaussian.mean)
    assert fetch.count == 80
    path.write_bytes(b"no tensors")
    cached(fetch, tmp_path / "cache")
    assert fetch.count == 120


def test_a_random_part_is_the_same_every_time_and_in_order() -> None:
    part = choose(1000, 100)
    assert torch.equal(part, choose(1000, 100))
    assert (part.diff() > 0).all()
    assert len(choose(5, 100)) == 5
    # Even spacing would meet only some of the classes of samples drawn in turn.
    assert len((part % 10).unique()) == 10


def test_images_are_bytes(tmp_path: Path) -> None:
    shards = Shards(tmp_path, 40, 40)
    with pytest.raises(ValueError, match="quantize"):
        extract(EXTRACTOR, Fetch(IMAGES.float()), shards, ProcessGroup(), "pool")


class Overtaken(Fetch):
    """Before it hands out the shard at `start`, another evaluation does all of the work."""

    def __init__(self, folder: Path, start: int) -> None:
        super().__init__()
        self.folder, self.start = folder, start

    def __call__(self, positions: range) -> Tensor:
        if positions.start == self.start and not self.folder.exists():
            cached(Fetch(), self.folder)
            assert self.folder.exists()
        return super().__call__(positions)


@pytest.mark.parametrize("start", [0, 16, 32])
def test_two_evaluations_at_a_time_do_not_take_each_other_s_shards(
    tmp_path: Path, start: int
) -> None:
    """The first to finish removes the shards that the other one has made or is to read."""
    expected = cached(Fetch(), tmp_path / "alone" / "cache")
    found = cached(Overtaken(tmp_path / "two" / "cache", start), tmp_path / "two" / "cache")
    assert torch.equal(found.features, expected.features)
    assert torch.equal(found.gaussian.covariance, expected.gaussian.covariance)

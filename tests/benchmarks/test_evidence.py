"""Measurements of generation under evidence: masks, rows of the table, records that go on."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.evidence import Bench, half_images, hidden_psnr, record, visible_patches
from benchmarks.inpainting import by_gradient, nearest
from tests.conftest import make_models

from benchmarks import dial, evidence, inpainting
from openunite.evaluation.frechet import statistics
from openunite.evaluation.images.features.base import Features
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import PLAIN


def judge(images: torch.Tensor) -> Features:
    """Two features, and a class for each half of the brightness."""
    flat = images.flatten(1)
    features = torch.stack([flat.mean(1), flat.std(1)], dim=1)
    return Features(features, torch.stack([flat.mean(1), 1.0 - flat.mean(1)], dim=1))


@pytest.fixture
def bench() -> Bench:
    """Eight images of 8 x 8 pixels in four patches, and a network that was never trained."""
    models = make_models(image={"height": 8, "width": 8, "channels": 1, "patch_size": 4})
    sampling = PLAIN.change(solver="euler", num_inference_steps=2)
    pipeline = ImagePipeline(models.encoder.eval(), models.decoder.eval(), sampling)
    generator = torch.Generator().manual_seed(0)
    images, train = (torch.rand(n, 1, 8, 8, generator=generator) for n in (8, 12))
    reference = statistics(judge(images).values)
    return Bench(pipeline, images, torch.zeros(8, dtype=torch.long), train, reference, judge)


def test_masks_hide_half_of_each_image(bench: Bench) -> None:
    halves = bench.pixels(half_images(bench.grid, 8))
    assert halves.shape == (8, 8, 8)
    assert halves.sum(dim=(1, 2)).tolist() == [32] * 8
    assert bool(halves[0, :4].all())
    assert bool(halves[3, :, 4:].all())
    scattered = visible_patches((4, 4), 100, 8)
    assert scattered.sum(dim=1).tolist() == [8] * 100
    assert scattered.float().mean(0).min() > 0.3
    assert torch.equal(visible_patches((4, 4), 100, 8), scattered)


def test_only_hidden_pixels_count() -> None:
    target = torch.zeros(4, 1, 8, 8)
    images = target.clone()
    known = torch.zeros(4, 8, 8, dtype=torch.bool)
    known[:, :4] = True
    images[:, :, 4:] = 0.1
    images[:, :, :4] = 0.9
    assert hidden_psnr(images, target, known) == pytest.approx((20.0, 20.0), abs=1e-4)


def test_the_nearest_image_is_chosen_by_its_known_part(bench: Bench) -> None:
    known = bench.pixels(half_images(bench.grid, 8))
    train = torch.cat([bench.train, bench.images.flip(0)])
    train[12:, :, :, 0] += 1e-3
    found = nearest(bench.images, train, known)
    assert all((found[i] - bench.images[i]).abs().max() < 0.01 for i in range(8))


def test_the_gradient_of_the_decoder_pulls_samples_to_the_known_pixels(bench: Bench) -> None:
    known = bench.pixels(half_images(bench.grid, 8))
    free, pulled = (by_gradient(bench.pipeline, bench.images, known, s) for s in (0.0, 1.0))
    error = [((x - bench.images).square() * known[:, None]).mean() for x in (free, pulled)]
    assert error[1] < 0.95 * error[0]
    torch.testing.assert_close(free, bench.sample(), rtol=0, atol=1e-4)


def test_the_table_has_every_row_that_the_record_promises(bench: Bench) -> None:
    known: dict[str, Any] = {}
    for part in inpainting.measure(bench, {}):
        known |= part
    assert list(inpainting.measure(bench, known)) == []
    assert set(known) == {"half", "scattered"}
    found = known["scattered"]
    promised = ["psnr_hidden", "accuracy_with_class"]
    promised += [f"fd_{x}" for x in ("model", "unconditional", "gradient", "nearest", "real")]
    assert all(isinstance(found[name], float) for name in promised)


def test_a_dial_goes_on_where_it_was_stopped(bench: Bench) -> None:
    whole = list(dial.measure(bench, {}))
    known = {**whole[0], **{k: v[:2] for k, v in whole[-1].items()}}
    again = list(dial.measure(bench, known))
    assert len(again) == 3
    assert again[-1] == whole[-1]
    assert whole[-1]["share"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert whole[-1]["spread"][0] > 0.0


def test_records_keep_what_was_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def measure(bench: Bench, known: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for name in ("a", "b"):
            if name not in known:
                asked.append(name)
                yield {name: 1.0}
            if len(asked) == 1:
                return

    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    monkeypatch.setattr(Bench, "of", lambda folder, count: bench)
    runs = {"one": 0, "two": 3}
    monkeypatch.setattr(
        evidence, "Run", lambda f: SimpleNamespace(config=SimpleNamespace(seed=runs[str(f)]))
    )
    for _ in range(2):
        record("it", ["one", "two"], "inpainting", 8, measure)
    found = json.loads((tmp_path / "it.json").read_text())
    assert found["seeds"] == {"0": {"a": 1.0, "b": 1.0}, "3": {"a": 1.0, "b": 1.0}}
    assert found["command"] == "python -m benchmarks.inpainting --runs one two --count 8"
    assert sorted(asked) == ["a", "a", "b", "b"]

"""The end of a run on images: how many of them its metrics are of."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from openunite.catalog import get_recipe
from openunite.cli import main
from openunite.data.images.dataset import ImageData
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.modalities.image import score
from openunite.modalities.image import task as job
from openunite.modalities.image.task import ImageTask
from openunite.progress import showing
from openunite.runs import Run
from openunite.training import deadline
from openunite.training.config import DataConfig
from openunite.verbs import minutes


class _SeenError(Exception):
    pass


@pytest.mark.parametrize(("held_out", "tested"), [(30, 30), (1000, 1000), (1500, 1000)])
def test_metrics_are_of_at_most_1000_test_images(
    held_out: int, tested: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are in the order of their classes, what is tested has all of them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels, labels = np.zeros((held_out, 28, 28), np.uint8), np.arange(held_out) * 10 // held_out
    pixels[:, 0, 0], pixels[:, 0, 1] = np.divmod(np.arange(held_out), 256)
    images = {"x_train": pixels[:20], "y_train": np.arange(20) % 10}
    np.savez(tmp_path / "own.npz", **images, x_test=pixels, y_test=labels)
    config = replace(get_recipe("fashion")(), data=DataConfig(str(tmp_path / "own.npz")))
    task = ImageTask()
    data: ImageData = task.open(config, config.data.source, progress=False)
    pipeline = SimpleNamespace(modality=SimpleNamespace(settings=SimpleNamespace(patch_size=7)))
    seen: dict[str, Any] = {}

    def evaluate(**given: Any) -> None:
        seen.update(given)
        raise _SeenError

    monkeypatch.setattr(job, "evaluate_images", evaluate)
    with pytest.raises(_SeenError):
        task.finish(config, tmp_path, data, pipeline)
    found = seen["test_images"][:, 0, 0, :2].long() @ torch.tensor([256, 1])
    assert len(found) == tested
    assert (found.diff() > 0).all()
    assert torch.equal(seen["test_labels"], torch.from_numpy(labels)[found])
    if held_out <= 1000:
        assert torch.equal(found, torch.arange(held_out))
    else:
        assert torch.bincount(seen["test_labels"]).min() > 80


def mean_color(images: torch.Tensor) -> torch.Tensor:
    """Features that need no weights: rows and columns of the picture."""
    return torch.cat([images.mean(1).flatten(1)[:, ::7], images.mean((2, 3))], dim=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Forty small pictures of two classes."""
    random = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "pictures" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 128, (16, 16, 3), dtype=np.uint8) + np.uint8(127 * (i % 2))
        Image.fromarray(noise).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def test_own_images_end_with_a_score_beside_real_and_blurred_ones(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(minutes, "MIN_STEPS", 3)
    monkeypatch.setattr(deadline, "MIN_STEPS", 3)
    width = 16 * 16 // 7 + 1 + 3
    extractor = CallableExtractor("mean", width, "0", mean_color)
    monkeypatch.setattr(score, "load_extractor", lambda name: extractor)
    run = tmp_path / "run"
    common = ["train", "images", "--data", str(pictures), "--output", str(run)]
    small = ["model.width=32", "model.num_heads=2", "model.depth=1", "data.holdout_share=0.3"]
    main([*common, "--minutes", "0.001", "--set", *small])
    printed, metrics = capsys.readouterr().out, Run(run).metrics
    assert "KID of samples" in printed
    assert "every sample is seen" in printed
    assert {"kid_samples", "kid_samples_se", "kid_real", "kid_blur"} <= metrics.keys()
    config = Run(run).config
    assert config.modality_config["patch_size"] == 4
    assert not config.modality_config.get("flip")
    assert config.pace is not None
    assert config.steps == metrics["steps"] == config.pace.steps == 3
    main([*common, "--minutes", "7", "--set", *small])
    assert "is finished" in (again := capsys.readouterr().out)
    assert "keeps the 0.001 minutes (3 steps) of its first start" in again


def test_without_weights_there_is_no_score_and_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"extractor {name} needs the weights")

    monkeypatch.setattr(score, "load_extractor", missing)
    with showing():
        assert score.score_extractor("photos/") is None
    assert "no score of samples: extractor efficientnet-lite0 needs" in capsys.readouterr().out

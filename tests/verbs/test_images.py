"""The end of a run on images: how many of them its metrics are of."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from openunite.catalog import get_recipe
from openunite.data.images.dataset import ImageData
from openunite.modalities.image import task as job
from openunite.modalities.image.task import ImageTask
from openunite.training.config import DataConfig


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

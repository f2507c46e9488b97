"""A run small enough for tests: four 14 x 14 patches of the embedded images, a 2-block network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openunite.batch import CLASS, Batch, Given
from openunite.data.images import arrays
from openunite.evaluation.images.perceptual import Lpips
from openunite.objective import UniteObjective
from openunite.training.build import build_models, build_objective
from openunite.training.config import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
)
from openunite.training.trainer import Trainer

EMBEDDED = Path(arrays.__file__).parent / "assets" / "fashion_mnist_mini.npz"


class TinyImages:
    """The first 300 embedded images, in memory."""

    sizes = None

    def __init__(self, channels: int = 1) -> None:
        arrays = np.load(EMBEDDED)
        grey = torch.from_numpy(arrays["x_train"][::20].copy())[:, None]
        self.images = grey.expand(-1, channels, -1, -1)
        self.labels = torch.from_numpy(arrays["y_train"][::20].astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: list[int]) -> Batch:
        classes = {CLASS: Given.of_all(self.labels[indices])}
        return Batch(self.images[indices], torch.tensor(indices), conditions=classes)


def tiny_config(**changes: Any) -> RunConfig:
    """A 40-step run; `changes` are fields of RunConfig, `objective__x` etc. reach one deeper."""
    config = RunConfig(
        recipe="tiny",
        modality="image",
        modality_config={"height": 28, "width": 28, "channels": 1, "patch_size": 14, "flip": True},
        num_classes=10,
        data=DataConfig("embedded"),
        model=ModelConfig(4, 8, 32, 2, 2, 32, 1, 2, 64, 2, 1),
        steps=40,
        batch_size=16,
        seed=3,
        objective=ObjectiveConfig(flow_draws=2),
        optimizer=OptimizerConfig(warmup_steps=5),
        checkpoint_every=1000,
        log_every=5,
    )
    for name, value in changes.items():
        if "__" in name:
            part, field = name.split("__")
            value = replace(getattr(config, part), **{field: value})
            name = part
        config = replace(config, **{name: value})
    return config


def tiny_color(**changes: Any) -> tuple[UniteObjective, TinyImages, RunConfig]:
    """The same in color, so that LPIPS takes part, with random weights."""
    config = tiny_config(**changes)
    color = {"channels": 3, "perceptual": "lpips"}
    config = replace(config, modality_config=config.modality_config | color)
    objective = build_objective(config, *build_models(config))
    objective.modality.use_distance(Lpips.random(0))  # type: ignore[attr-defined]
    return objective, TinyImages(channels=3), config


def tiny_trainer(folder: Path, preview: Any = None, **changes: Any) -> Trainer:
    """A trainer of `tiny_config(**changes)` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(**changes)
    objective = build_objective(config, *build_models(config))
    return Trainer(objective, TinyImages(), config, folder, preview)

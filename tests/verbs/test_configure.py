"""From options to settings: what is refused at once, and what --minutes comes to."""

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.training.tiny import TinyImages, tiny_config

from openunite.batch import Batch
from openunite.commands import Train
from openunite.modalities.image.task import ImageTask
from openunite.planning.memory import memory
from openunite.planning.plan import fit_to_memory
from openunite.training.build import build_models
from openunite.training.sizes import get_size
from openunite.verbs import configure as module
from openunite.verbs.configure import configure, fit_to_minutes, step_seconds, trial_rows


def test_a_patch_larger_than_the_image_is_refused_before_data_are_read(tmp_path: Path) -> None:
    command = Train("fashion", data=str(tmp_path / "nowhere"), image_size=16, patch_size=30)
    with pytest.raises(ValueError, match="shorter side of 16 x 16 images, got 30"):
        configure(command)


@pytest.mark.parametrize(("minutes", "steps", "about"), [(2.0, 240, "2.0"), (0.1, 100, "0.8")])
def test_minutes_become_steps(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    minutes: float,
    steps: int,
    about: str,
) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    command = Train("fashion", minutes=minutes)
    assert fit_to_minutes(configure(command), command, TinyImages(), None).steps == steps
    sizes = "28 x 28 pixels, patch 7, model 96 wide, 3 deep (866,445 parameters), batch 32"
    expected = f"{sizes}, 32 at a time: {steps} steps, about {about} minutes (0.500 s per step)"
    assert expected in capsys.readouterr().out


def test_minutes_name_the_size_of_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    command = Train("fashion", minutes=2.0, size="nano", micro_batch_size=4)
    fit_to_minutes(configure(command), command, TinyImages(), None, 2)
    assert "model nano (" in (printed := capsys.readouterr().out)
    assert "batch 32, 4 at a time" in printed


def test_on_a_gpu_as_many_samples_at_a_time_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    monkeypatch.setattr(module, "choose_device", lambda: torch.device("cuda"))
    gpu = SimpleNamespace(total_memory=24e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    command = Train("imagenet256_b", minutes=2.0)
    config = dataclasses.replace(configure(command), micro_batch_size=None)
    fitted = fit_to_minutes(config, command, TinyImages(), None, 4)
    size = fitted.micro_batch_size
    assert size is not None
    assert 256 % size == 0
    assert memory(config, size, 4).peak < 24e9 < memory(config, 2 * size, 4).peak
    assert fit_to_memory(config, 4, 24e12) == config
    own = dataclasses.replace(config, micro_batch_size=8)
    assert fit_to_memory(own, 4, 24e9) == own


def test_minutes_are_measured_once_per_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> float:
        raise AssertionError

    monkeypatch.setattr(module, "step_seconds", fail)
    command = Train("fashion", minutes=2.0)
    assert fit_to_minutes(configure(command), command, TinyImages(), 77).steps == 77
    assert "this run keeps the 77 steps of its first start" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", [0.0, -1.0])
def test_no_time_is_refused(minutes: float) -> None:
    with pytest.raises(ValueError, match="--minutes must be more than 0"):
        configure(Train("fashion", minutes=minutes))


def test_minutes_and_steps_are_refused_together() -> None:
    with pytest.raises(ValueError, match="give --minutes or --steps, not both"):
        configure(Train("fashion", minutes=1.0, steps=5))


def test_step_seconds_leaves_the_random_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert 0.0 < step_seconds(tiny_config(), TinyImages()) < 30.0
    assert torch.equal(torch.rand(3), expected)
    before = build_models(tiny_config())[0].state_dict()
    after = build_models(tiny_config())[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Watched(TinyImages):
    """Remembers which rows were asked for."""

    def __init__(self, sizes: np.ndarray | None = None) -> None:
        super().__init__()
        self.sizes, self.asked = sizes, []

    def batch(self, indices: list[int]) -> Batch:
        self.asked.append(indices)
        return super().batch(indices)


@pytest.mark.parametrize(("processes", "micro", "rows"), [(1, None, 16), (4, None, 4), (4, 2, 2)])
def test_a_process_is_timed_with_its_share_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, processes: int, micro: int | None, rows: int
) -> None:
    clock = itertools.count()  # every attempt takes a second
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(clock)))
    data, config = Watched(), tiny_config(micro_batch_size=micro)
    assert step_seconds(config, data, processes) == 16 / processes / rows
    assert [len(asked) for asked in data.asked] == [rows]


def test_trial_batches_stand_for_all_of_the_data() -> None:
    assert trial_rows(TinyImages(), 4) == [[0, 100, 199, 299]]
    sizes = np.sort(np.random.default_rng(0).integers(1, 40, 300))  # a source sorted by size
    chosen = trial_rows(Watched(sizes), 20)
    means = [sizes[rows].mean() for rows in chosen]
    assert means == sorted(means)
    assert np.mean(means) == pytest.approx(sizes.mean(), rel=0.1)
    assert all(np.ptp(sizes[rows]) < 5 for rows in chosen)
    assert trial_rows(Watched(sizes), 300) == [list(range(300))] * 3


@pytest.mark.parametrize(("labels", "classes"), [(3, 3), (12, 12), (0, 0)])
def test_other_classes_than_a_recipe_says_are_refused(
    tmp_path: Path, labels: int, classes: int
) -> None:
    images = {"x_train": np.zeros((24, 28, 28), np.uint8), "x_test": np.zeros((12, 28, 28), "u1")}
    if labels:
        images |= {"y_train": np.arange(24) % labels, "y_test": np.arange(12) % labels}
    np.savez(tmp_path / "own.npz", **images)
    config, task = configure(Train("fashion", data=str(tmp_path / "own.npz"))), ImageTask()
    data = task.open(config, progress=False)
    with pytest.raises(ValueError, match=f"expected 10 classes, .* got {classes} in .*own.npz"):
        task.resolve(config, data)
    free = task.resolve(dataclasses.replace(config, num_classes=None), data)
    assert free.num_classes == classes
    assert task.resolve(free, data) == free


def test_options_land_where_they_belong() -> None:
    options = Train(
        "fashion",
        size="micro",
        channels=3,
        flip=True,
        registers=9,
        latent_channels=6,
        micro_batch_size=4,
        flow_weight=0.2,
        learning_rate=1e-3,
        sharding="full",
        compile=True,
        workers=2,
        checkpoint_every=70,
    )
    recipe, config = configure(Train("fashion")), configure(options)
    assert config.model == get_size("micro").model(num_registers=9, latent_channels=6)
    assert config.modality_config == {**recipe.modality_config, "channels": 3, "flip": True}
    assert config.objective == dataclasses.replace(recipe.objective, flow_weight=0.2)
    assert config.optimizer.muon_learning_rate == 1e-3
    ratio = recipe.optimizer.adamw_learning_rate / recipe.optimizer.muon_learning_rate
    assert config.optimizer.adamw_learning_rate == pytest.approx(1e-3 * ratio)
    assert config.data == dataclasses.replace(recipe.data, workers=2)
    touched = ["micro_batch_size", "sharding", "compile", "checkpoint_every"]
    assert [getattr(config, name) for name in touched] == [4, "full", True, 70]
    touched += ["model", "modality_config", "objective", "optimizer", "data"]
    same = {name: getattr(recipe, name) for name in touched}
    assert dataclasses.replace(config, **same) == recipe

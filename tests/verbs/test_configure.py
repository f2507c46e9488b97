"""From options to settings: what is refused at once, and what --minutes comes to."""

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.training.tiny import TinyImages, tiny_config
from tests.verbs.asking import settings

from openunite import clock
from openunite.batch import Batch
from openunite.modalities.image.fit import sides
from openunite.modalities.image.task import ImageTask
from openunite.planning.memory import memory
from openunite.planning.plan import fit_to_memory
from openunite.progress import showing
from openunite.task import Options
from openunite.training.build import build_models
from openunite.training.pace import Pace
from openunite.training.sizes import get_size
from openunite.verbs import minutes as module
from openunite.verbs.configure import configure
from openunite.verbs.minutes import TimeTaken, fit_to_minutes, step_seconds, trial_rows


def test_a_patch_larger_than_the_image_is_refused_before_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter side of 16 x 16 images, got 30"):
        settings("fashion", tmp_path / "nowhere", image_size=16, patch_size=30)


@pytest.mark.parametrize(("minutes", "steps", "about"), [(2.0, 240, "2.0"), (0.1, 100, "0.8")])
def test_minutes_become_steps(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    minutes: float,
    steps: int,
    about: str,
) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    config, asked = settings("fashion"), Options(minutes=minutes)
    with showing():
        assert fit_to_minutes(config, asked, TinyImages(), None).steps == steps
    model = "model 96 wide, 3 deep (866,445 parameters), batch 32"
    sizes = f"images of 28 x 28 pixels in patches of 7, {model}"
    expected = f"{sizes}, 32 at a time: {steps} steps, about {about} minutes (0.500 s per step, "
    assert expected in (printed := capsys.readouterr().out)
    assert f"every sample is seen {steps * 32 / 300:.0f} times" in printed
    assert "recognizes 57, 80 and 95 % of the samples after 250, 600 and 1,400 steps" in printed


def test_what_comes_before_and_after_training_is_paid_by_the_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    asked, taken = Options(minutes=2.0), TimeTaken(before=7.0, after=13.0)
    found = fit_to_minutes(settings("fashion"), asked, TinyImages(), None, taken=taken)
    assert (found.steps, found.pace) == (200, Pace(2.0, ((0, 200),)))


def test_minutes_name_the_size_of_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    config = settings("fashion", size="nano", set=("micro_batch_size=4",))
    with showing():
        fit_to_minutes(config, Options(minutes=2.0), TinyImages(), None, 2)
    assert "model nano (" in (printed := capsys.readouterr().out)
    assert "batch 32, 4 at a time" in printed


def test_on_a_gpu_as_many_samples_at_a_time_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    monkeypatch.setattr(module, "choose_device", lambda: torch.device("cuda"))
    gpu = SimpleNamespace(total_memory=24e9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    config = dataclasses.replace(settings("imagenet256_b"), micro_batch_size=None)
    fitted = fit_to_minutes(config, Options(minutes=2.0), TinyImages(), None, 4)
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
    with showing():
        known = dataclasses.replace(settings("fashion"), steps=77)
        fitted = fit_to_minutes(settings("fashion"), Options(minutes=2.0), TinyImages(), known)
        assert (fitted.steps, fitted.pace) == (77, None)
        assert "this run keeps the 77 steps of its first start" in capsys.readouterr().out
        known = dataclasses.replace(known, pace=Pace(1.0, ((0, 90), (30, 77))))
        fitted = fit_to_minutes(settings("fashion"), Options(minutes=2.0), TinyImages(), known)
    assert fitted.pace == known.pace
    assert "this run keeps the 1 minutes (77 steps) of its first" in capsys.readouterr().out


def test_another_number_of_steps_drops_the_plans() -> None:
    known = dataclasses.replace(settings("fashion"), steps=77, pace=Pace(1.0, ((0, 77),)))
    assert configure(known, Options(fresh=False)).pace == known.pace
    assert configure(known, Options(steps=5, fresh=False)).pace is None


@pytest.mark.parametrize(
    ("side", "patch", "rows", "fixed", "expected"),
    [
        (32, None, 4, False, (32, 8)),
        (28, None, 4, False, (28, 7)),
        (30, None, 4, True, (30, 6)),
        (31, None, 4, False, (28, 7)),  # no divisor: the side is lowered
        (31, None, 4, True, (31, 7)),  # or the patches reach over the border
        (64, None, 8, False, (64, 8)),
        (50, 8, 4, False, (48, 8)),
        (50, 8, 4, True, (50, 8)),
        (8, None, 4, False, (8, 2)),
    ],
)
def test_patches_divide_the_side_of_own_images(
    side: int, patch: int | None, rows: int, fixed: bool, expected: tuple[int, int]
) -> None:
    assert sides(side, patch, rows, fixed=fixed) == expected


@pytest.mark.parametrize("minutes", [0.0, -1.0])
def test_no_time_is_refused(minutes: float) -> None:
    with pytest.raises(ValueError, match="--minutes must be more than 0"):
        settings("fashion", minutes=minutes)


def test_minutes_and_steps_are_refused_together() -> None:
    with pytest.raises(ValueError, match="give --minutes or --steps, not both"):
        settings("fashion", minutes=1.0, steps=5)


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
    ticks = itertools.count()  # every attempt takes a second
    monkeypatch.setattr(clock, "now", lambda: float(next(ticks)))
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
    config, task = settings("fashion", tmp_path / "own.npz"), ImageTask()
    data = task.open(config, config.data.source, progress=False)
    with pytest.raises(ValueError, match=f"expected 10 classes, .* got {classes} in .*own.npz"):
        task.resolve(config, data)
    free = task.resolve(dataclasses.replace(config, num_classes=None), data)
    assert free.num_classes == classes
    assert task.resolve(free, data) == free


def test_options_and_assignments_land_where_they_belong() -> None:
    recipe = settings("fashion")
    config = settings(
        "fashion",
        size="micro",
        sharding="full",
        compile=True,
        set=(
            "modality_config.channels=3",
            "modality_config.flip=yes",
            "model.num_registers=9",
            "model.latent_channels=6",
            "micro_batch_size=4",
            "objective.flow_weight=0.2",
            "optimizer.muon_learning_rate=1e-3",
            "data.workers=2",
            "checkpoint_every=70",
        ),
    )
    assert config.model == get_size("micro").model(num_registers=9, latent_channels=6)
    assert config.modality_config == {**recipe.modality_config, "channels": 3, "flip": True}
    assert config.objective == dataclasses.replace(recipe.objective, flow_weight=0.2)
    assert config.optimizer == dataclasses.replace(recipe.optimizer, muon_learning_rate=1e-3)
    assert config.data == dataclasses.replace(recipe.data, workers=2)
    touched = ["micro_batch_size", "sharding", "compile", "checkpoint_every"]
    assert [getattr(config, name) for name in touched] == [4, "full", True, 70]
    touched += ["model", "modality_config", "objective", "optimizer", "data"]
    same = {name: getattr(recipe, name) for name in touched}
    assert dataclasses.replace(config, **same) == recipe


def test_registers_follow_an_assigned_patch_size() -> None:
    """There is one register per patch, unless their number is assigned, too."""
    config = settings("fashion", set=("modality_config.patch_size=4",))
    assert config.model.num_registers == 49
    both = ("modality_config.patch_size=4", "model.num_registers=10")
    assert settings("fashion", set=both).model.num_registers == 10


def test_assigned_intervals_outlast_those_of_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "step_seconds", lambda config, data, processes: 0.5)
    asked = Options(minutes=2.0, set=("preview_every=0",))
    config = settings("fashion", minutes=2.0, set=asked.set)
    fitted = fit_to_minutes(config, asked, TinyImages(), None)
    assert (fitted.preview_every, fitted.checkpoint_every) == (0, 50)

"""A run with a deadline: its plans, its schedules, and that it can be repeated bit for bit."""

import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.training.test_resume import final_tensors, rows_without_clock
from tests.training.tiny import TinyImages, tiny_config
from torch import nn

from openunite import clock
from openunite.training import deadline as module
from openunite.training.build import build_models, build_objective
from openunite.training.config import RunConfig, load_config, save_config
from openunite.training.deadline import Deadline
from openunite.training.pace import Pace
from openunite.training.trainer import Trainer


@pytest.mark.parametrize("plans", [((0, 1750),), ((0, 1750), (300, 1750), (400, 1750))])
def test_a_plan_that_holds_is_the_plain_schedule(plans: tuple[tuple[int, int], ...]) -> None:
    assert [Pace(5.0, plans).place(step) for step in range(1751)] == list(range(1751))


def test_a_later_plan_stretches_what_is_left() -> None:
    pace = Pace(5.0, ((0, 100), (40, 70)))
    assert [pace.place(step) for step in (0, 39, 40, 41, 55, 70)] == [0, 39, 40, 42, 70, 100]
    assert (pace.planned, pace.steps) == (100, 70)
    longer = pace.anew(55, 85)
    assert [longer.place(step) for step in (40, 55, 56, 85)] == [40, 70, 71, 100]


@pytest.mark.parametrize(
    ("minutes", "plans"),
    [
        (0.0, ((0, 9),)),
        (1.0, ()),
        (1.0, ((1, 9),)),
        (1.0, ((0, 9), (9, 12))),
        (1.0, ((0, 9), (5, 5))),
    ],
)
def test_plans_that_cannot_be_are_refused(
    minutes: float, plans: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(ValueError, match="pace must have minutes above 0 and plans"):
        Pace(minutes, plans)


def test_steps_are_those_of_the_last_plan() -> None:
    with pytest.raises(ValueError, match="steps must be the 60 of the last plan of pace, got 40"):
        tiny_config(pace=Pace(1.0, ((0, 60),)))


@dataclass
class Hands:
    """A clock whose time is set."""

    time: float = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    monkeypatch.setattr(clock, "now", found)
    monkeypatch.setattr(clock, "processor", found)
    return found


@pytest.mark.parametrize("true", [0.2, 0.5, 1.0, 1.3])
@pytest.mark.parametrize("slower", [1.0, 2.0])
def test_a_run_ends_in_time_whatever_was_measured(hands: Hands, true: float, slower: float) -> None:
    """Planned for 0.5 s a step; from the middle of the time on the machine may be half as fast."""
    deadline = Deadline(600.0, reserve=60.0, began=0.0)
    hands.time, step = 20.0, 0
    config = tiny_config(steps=1040, pace=Pace(10.0, ((0, 1040),)))
    deadline.start(0, config)
    while step < config.steps:
        hands.time += true * (slower if hands.time > 300.0 else 1.0)
        step += 1
        config = deadline.plan(step, config)
    assert hands.time + 60.0 == pytest.approx(600.0, rel=0.05)
    assert config.pace is not None
    assert len(config.pace.plans) < 20


def test_what_follows_is_as_slow_as_training_was(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 steps of a second; then the process gets a third of a core."""
    deadline = Deadline(600.0, reserve=60.0, began=0.0)
    config = tiny_config(steps=540, pace=Pace(10.0, ((0, 540),)))
    deadline.start(0, config)
    hands.time = 100.0
    assert deadline.fitting(100, 540) == 540
    monkeypatch.setattr(clock, "processor", lambda: 100.0 + (hands.time - 100.0) / 3)
    hands.time = 130.0
    assert deadline.fitting(110, 540) == 110 + (600 - 180 - 130) // 3


def test_an_early_end_still_takes_a_hundred_steps(hands: Hands) -> None:
    deadline = Deadline(1.0, reserve=0.0, began=0.0)
    config = tiny_config(steps=300, pace=Pace(1.0, ((0, 300),)))
    deadline.start(0, config)
    hands.time = 5.0
    assert deadline.plan(20, config).steps == 100
    deadline.look = 150
    assert deadline.plan(150, config).steps == 151


class Timed(TinyImages):
    """Every batch takes a second until 12 were read, then a third of one."""

    def __init__(self, hands: Hands) -> None:
        super().__init__()
        self.hands, self.read = hands, 0

    def batch(self, indices: list[int]) -> object:  # type: ignore[override]
        self.read += 1
        self.hands.time += 1.0 if self.read <= 12 else 1 / 3
        return super().batch(indices)


def train(folder: Path, config: RunConfig, hands: Hands | None, stop_at: int = 0) -> Trainer:
    """Train in `folder`, with a deadline of 40 seconds of the clock if there is one."""

    def preview(model: nn.Module, step: int) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    folder.mkdir(exist_ok=True)
    objective = build_objective(config, *build_models(config))
    data = TinyImages() if hands is None else Timed(hands)
    keep = partial(save_config, path=folder / "config.yaml")
    deadline = None if hands is None else Deadline(40.0, 8.0, hands.time, keep)
    trainer = Trainer(
        objective,
        data,
        replace(config, preview_every=stop_at or 1000),
        folder,
        preview,
        deadline=deadline,
    )
    trainer.fit()
    return trainer


def equal(first: Path, second: Path) -> bool:
    one, two = final_tensors(first), final_tensors(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run planned to have 30 steps."""
    monkeypatch.setattr(module, "MIN_STEPS", 10)
    return tiny_config(steps=30, pace=Pace(1.0, ((0, 30),)))


def test_a_run_planned_anew_is_repeated_from_its_settings(
    tmp_path: Path, short: RunConfig, hands: Hands
) -> None:
    first = train(tmp_path / "first", short, hands)
    assert first.config.steps > 40
    assert first.step == first.config.steps
    assert hands.time == pytest.approx(32.0, abs=2.0)
    known = load_config(tmp_path / "first" / "config.yaml")
    assert known.pace is not None
    assert len(known.pace.plans) > 1
    train(tmp_path / "again", known, None)
    assert rows_without_clock(tmp_path / "first") == rows_without_clock(tmp_path / "again")
    assert equal(tmp_path / "first", tmp_path / "again")
    rates = [row["learning_rate"] for row in rows_without_clock(tmp_path / "again")]
    assert max(abs(a - b) for a, b in pairwise(rates[5:])) < 0.1 * max(rates)
    assert rates[-1] < 0.01 * max(rates)


def test_a_resumed_run_keeps_its_plans_and_the_time_that_is_left(
    tmp_path: Path, short: RunConfig, hands: Hands
) -> None:
    train(tmp_path / "run", short, hands, stop_at=20)
    half = load_config(tmp_path / "run" / "config.yaml")
    assert half.pace is not None
    assert len(half.pace.plans) > 1
    hands.time += 1000.0  # a night
    began = hands.time
    resumed = train(tmp_path / "run", half, hands)
    assert resumed.config.pace is not None
    assert resumed.config.pace.plans[: len(half.pace.plans)] == half.pace.plans
    assert 1.0 < hands.time - began < 25.0  # of 32 seconds
    train(tmp_path / "again", load_config(tmp_path / "run" / "config.yaml"), None)
    assert rows_without_clock(tmp_path / "run") == rows_without_clock(tmp_path / "again")
    assert equal(tmp_path / "run", tmp_path / "again")

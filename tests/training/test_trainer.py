"""The loop: accumulation, precision, what is logged, and what never reaches the weights."""

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.tiny import tiny_trainer

from openunite.objective import LossTerm, UniteObjective
from openunite.training.collapse import CollapseError
from openunite.training.trainer import MAX_BAD_STEPS, check_agreement


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_accumulation_does_not_change_the_curve(tmp_path: Path) -> None:
    for name, micro in (("one", 16), ("four", 4)):
        tiny_trainer(tmp_path / name, steps=12, micro_batch_size=micro).fit()
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "four"), strict=True):
        assert a["loss_reconstruction"] == pytest.approx(b["loss_reconstruction"], abs=2e-5)
        assert a["loss_flow"] == pytest.approx(b["loss_flow"], rel=2e-3, abs=1e-5)
        assert a["learning_rate"] == b["learning_rate"]


def test_the_first_gradients_agree_under_accumulation(tmp_path: Path) -> None:
    gradients = []
    for name, micro in (("one", 16), ("four", 4)):
        trainer = tiny_trainer(tmp_path / name, micro_batch_size=micro)
        with torch.no_grad():
            for parameter in trainer.names:
                parameter.add_(0.02)  # away from the zero initialization, where gradients vanish
        trainer.train_step.accumulate(0, iter(trainer.batches()))
        gradients.append(
            {n: p.grad.clone() for p, n in trainer.names.items() if p.grad is not None}
        )
    for name, one in gradients[0].items():
        torch.testing.assert_close(one, gradients[1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_rows_have_every_scalar_and_rank_at_intervals(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, steps=10).fit()
    expected = {
        "step",
        "loss",
        "loss_reconstruction",
        "loss_l1",
        "loss_flow",
        "flow_weight",
        "latent_spread",
        "learning_rate",
        "grad_norm",
        "samples_per_second",
    }
    for row in rows(tmp_path):
        assert expected <= row.keys()
        assert ("effective_rank" in row) == (row["step"] % 5 == 0)


def test_bf16_runs_and_learns(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, steps=30, precision="bf16").fit()
    first, last = rows(tmp_path)[0], rows(tmp_path)[-1]
    assert last["loss_reconstruction"] < 0.6 * first["loss_reconstruction"]


@dataclass(frozen=True)
class Poisoned(UniteObjective):
    """Loss, gradient or latents are not finite at the steps in `bad`."""

    bad: tuple[int, ...] = ()
    kind: str = "loss"

    def terms(self, batch: Any, step: int, random: Any) -> Iterator[LossTerm]:
        for term in super().terms(batch, step, random):
            if step in self.bad and term.name == "flow" and self.kind != "latents":
                weight = self.encoder.latent_output.weight
                edge = torch.sqrt(0.0 * weight.sum())  # is 0, and its gradient NaN
                yield replace(term, value=term.value + (edge if self.kind == "gradient" else 1e999))
            elif step in self.bad and self.kind == "latents" and term.latents is not None:
                yield replace(term, value=term.value * math.nan, latents=term.latents * math.nan)
            else:
                yield term


def poison(trainer: Any, bad: tuple[int, ...], kind: str) -> None:
    fields = dict(vars(trainer.objective))
    trainer.train_step.objective = Poisoned(**fields, bad=bad, kind=kind)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_not_finite_never_reaches_the_weights(tmp_path: Path, kind: str) -> None:
    trainer = tiny_trainer(tmp_path, steps=6)
    poison(trainer, (3,), kind)
    batches = iter(trainer.batches())
    for _ in range(3):
        trainer.advance(batches)
    weights = {n: p.detach().clone() for p, n in trainer.names.items()}
    averages = [p.clone() for p in trainer.ema.model.parameters()]
    moments = {
        (n, k): v.clone()
        for o in trainer.optimizers.values()
        for n, s in enumerate(o.state.values())
        for k, v in s.items()
    }
    row = trainer.advance(batches)
    assert row["skipped"] == 1.0
    assert all(torch.equal(p, weights[n]) for p, n in trainer.names.items())
    assert all(
        torch.equal(a, b) for a, b in zip(averages, trainer.ema.model.parameters(), strict=True)
    )
    after = {
        (n, k): v
        for o in trainer.optimizers.values()
        for n, s in enumerate(o.state.values())
        for k, v in s.items()
    }
    assert moments.keys() == after.keys()
    assert "skipped" not in trainer.advance(batches)
    assert any(not torch.equal(p, weights[n]) for p, n in trainer.names.items())


def test_a_step_with_latents_that_are_not_finite_is_skipped(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, steps=12)
    poison(trainer, (4,), "latents")  # of the step whose rank is logged
    assert trainer.fit().finished
    found = rows(tmp_path)
    assert [row["step"] for row in found if "skipped" in row] == [5]
    assert found[4]["effective_rank"] is None
    assert found[9]["effective_rank"] > 0.0


@pytest.mark.parametrize("kind", ["loss", "latents"])
def test_a_run_of_bad_steps_stops_with_advice(tmp_path: Path, kind: str) -> None:
    trainer = tiny_trainer(tmp_path, steps=60)
    poison(trainer, tuple(range(2, 60)), kind)
    message = "not finite for 20 steps .* up to step 22; .*No checkpoint is known to be good"
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit()
    assert len(rows(tmp_path)) >= MAX_BAD_STEPS


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_bad_steps_are_not_saved_and_the_good_checkpoint_is_named(tmp_path: Path) -> None:
    changes = {"steps": 60, "checkpoint_every": 4, "keep_checkpoints": 1}
    trainer = tiny_trainer(tmp_path, **changes)
    poison(trainer, tuple(range(10, 60)), "loss")  # the 11th step is the first bad one
    with pytest.raises(FloatingPointError, match=r"good is .*step-00000008; .*resumes there"):
        trainer.fit()
    assert checkpoints(tmp_path) == ["step-00000008"]
    again = tiny_trainer(tmp_path, **changes)
    again.fit()  # whatever it was is gone
    assert again.step == 60
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 61))


def test_a_checkpoint_that_only_bad_steps_followed_is_set_aside(tmp_path: Path) -> None:
    """The same command must not begin with it for ever."""
    trainer = tiny_trainer(tmp_path, steps=60, checkpoint_every=4)
    poison(trainer, tuple(range(8, 60)), "loss")
    with pytest.raises(FloatingPointError, match=r"known to be good is .*step-00000004;"):
        trainer.fit()
    assert checkpoints(tmp_path) == ["step-00000004", "useless-step-00000008"]


def test_a_single_bad_step_costs_no_checkpoint_but_its_own(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, steps=12, checkpoint_every=4, keep_checkpoints=9)
    poison(trainer, (3,), "loss")
    trainer.fit()
    assert checkpoints(tmp_path) == ["step-00000008", "step-00000012"]


def test_a_run_that_ends_with_a_bad_step_is_finished_and_keeps_a_good_checkpoint(
    tmp_path: Path,
) -> None:
    trainer = tiny_trainer(tmp_path, steps=12, checkpoint_every=4, keep_checkpoints=1)
    poison(trainer, (11,), "loss")
    result = trainer.fit()
    assert (result.finished, result.steps_done) == (True, 12)
    assert checkpoints(tmp_path) == ["step-00000008", "step-00000012"]


def test_a_stop_among_bad_steps_goes_on_from_the_last_good_checkpoint(tmp_path: Path) -> None:
    def stop(model: object, step: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    trainer = tiny_trainer(tmp_path, stop, steps=12, checkpoint_every=4, preview_every=6)
    poison(trainer, (5,), "loss")
    result = trainer.fit()
    assert (result.finished, result.steps_done) == (False, 4)
    assert checkpoints(tmp_path) == ["step-00000004"]


def test_indivisible_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiple of micro_batch_size"):
        tiny_trainer(tmp_path, micro_batch_size=5)


def test_a_bad_recipe_collapses_and_is_caught(tmp_path: Path) -> None:
    """Full flow weight from the first step: latents stay constant, and the run says so."""
    leads = {"objective__flow_weight": 20.0, "objective__flow_ramp": 0.0}
    with pytest.raises(CollapseError, match="lower flow_weight"):
        tiny_trainer(tmp_path, steps=300, optimizer__warmup_steps=2, **leads).fit()
    assert rows(tmp_path)[-1]["latent_spread"] < 0.05


def test_the_default_recipe_does_not_collapse(tmp_path: Path) -> None:
    assert tiny_trainer(tmp_path, steps=160, batch_size=32).fit().finished
    assert rows(tmp_path)[-1]["latent_spread"] > 0.2


def test_tensorboard_gets_every_row(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tiny_trainer(tmp_path, steps=6, trackers=("tensorboard",)).fit()
    (events,) = tmp_path.rglob("events.out*.0")
    reader = EventAccumulator(str(events.parent))
    reader.Reload()
    assert [event.step for event in reader.Scalars("loss_reconstruction")] == list(range(1, 7))


def test_an_unknown_tracker_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tracker 'clipboard' cannot be used"):
        tiny_trainer(tmp_path, trackers=("clipboard",))


def test_processes_that_found_different_checkpoints_do_not_start(tmp_path: Path) -> None:
    accelerator = tiny_trainer(tmp_path).accelerator
    accelerator.gather = lambda steps: torch.tensor([3, -1])  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"steps \[-1, 3\].*one folder"):
        check_agreement(accelerator, tmp_path, 3)

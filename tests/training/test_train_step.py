"""One optimizer step alone: what it computes, what it tells the host, and when it does nothing."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from tests.training.tiny import tiny_trainer

from openunite.flow.random import SlotRandom
from openunite.training.sharding import clip_gradients
from openunite.training.step import Verdict


def test_a_step_is_the_sum_of_the_terms_clipped_and_applied(tmp_path: Path) -> None:
    """Written out by hand on a twin, bit for bit: rows, weights and averages."""
    trainer, twin = (tiny_trainer(tmp_path / name) for name in ("a", "b"))
    batches, same = iter(trainer.batches()), iter(twin.batches())
    for step in range(3):
        row, verdict = trainer.train_step(step, batches)
        assert verdict == Verdict(finite=True, stop=False)
        random = SlotRandom(twin.config.seed, step, torch.arange(16))
        total = torch.zeros(())
        for term in twin.objective.terms(next(same), step, random):
            (term.value * term.weight).backward()
            total = total + term.value.detach() * term.weight
        norm = clip_gradients(twin.model.parameters(), twin.config.optimizer.clip_norm)
        rate = twin.config.optimizer.muon_learning_rate * (step + 1) / 5  # 5 steps of warm-up
        for optimizer in twin.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * (step + 1) / 5
            optimizer.step()
            optimizer.zero_grad()
        twin.ema.update(step)
        assert (float(row["loss"]), float(row["grad_norm"])) == (float(total), float(norm))
        assert row["learning_rate"] == pytest.approx(rate)
        assert "skipped" not in row
    for ours, theirs in ((trainer.model, twin.model), (trainer.ema.model, twin.ema.model)):
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("bad", "stop"), [*itertools.product(["", "loss", "norm"], [False, True])])
def test_the_verdict_is_read_from_loss_norm_and_the_word_of_a_signal(bad: str, stop: bool) -> None:
    loss = torch.tensor(math.nan if bad == "loss" else 1.0, dtype=torch.float64)
    norm = torch.tensor(math.inf if bad == "norm" else 2.0)
    heard = torch.tensor(0.5 if stop else 0.0)  # one of two processes
    assert Verdict.read(loss, norm, heard) == Verdict(finite=not bad, stop=stop)


def test_a_signal_during_the_step_is_in_its_verdict_and_not_in_its_row(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    row, verdict = trainer.train_step(0, iter(trainer.batches()), lambda: True)
    assert verdict == Verdict(finite=True, stop=True)
    assert "stop" not in row


def test_an_update_without_finite_gradients_only_clears_them(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    trainer.train_step.accumulate(0, iter(trainer.batches()))
    before = [p.detach().clone() for p in (*trainer.names, *trainer.ema.model.parameters())]
    trainer.train_step.update(0, Verdict(finite=False, stop=False))
    after = [*trainer.names, *trainer.ema.model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in trainer.names)
    assert not any(optimizer.state for optimizer in trainer.optimizers.values())

"""The baseline has the mathematics of the library: a benchmark of something else proves nothing."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from benchmarks.released import (
    LoopedMuon,
    PlainEncoder,
    PlainObjective,
    plain_average,
    plain_guide,
    plain_optimizers,
)
from torch import Tensor, nn

from openunite.batch import Evidence
from openunite.flow.guidance import guide
from openunite.flow.random import SlotRandom
from openunite.objective import UniteObjective
from openunite.training.config import OptimizerConfig
from openunite.training.ema import EMA
from openunite.training.optim import BatchedMuon, build_optimizers

Build = Callable[..., Any]


def gradients(terms: Any, models: nn.ModuleDict) -> tuple[float, dict[str, Tensor]]:
    total = 0.0
    for term in terms:
        (term.value * term.weight).backward()
        total += float(term.value.detach() * term.weight)
    found = {name: p.grad for name, p in models.named_parameters() if p.grad is not None}
    models.zero_grad()
    return total, found


@pytest.mark.parametrize("context", [0, 2])
def test_losses_and_gradients_agree(tiny_models: Build, context: int) -> None:
    made = tiny_models(num_context_tokens=context)
    models = nn.ModuleDict({"encoder": made.encoder, "decoder": made.decoder})
    ours = UniteObjective(made.encoder, made.decoder, made.modality, flow_draws=3)
    plain: Any = PlainEncoder(made.encoder)
    # object.__setattr__: the test's type checker insists on the class of the encoder.
    theirs = replace(ours)
    object.__setattr__(theirs, "encoder", plain)
    random = SlotRandom(1, 5, torch.arange(6))
    loss, expected = gradients(ours.terms(made.batch, 5, random), models)
    other, found = gradients(PlainObjective(theirs).terms(made.batch, 5, random), models)
    assert other == pytest.approx(loss, rel=1e-5)
    assert set(found) == set(expected)
    for name, grad in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(grad, expected[name], rtol=1e-3, atol=2e-5 * max(scale, 1e-2))


def test_both_branches_of_guidance_agree(tiny_models: Build) -> None:
    encoder = tiny_models().encoder.eval()
    z, evidence = torch.randn(4, 4, 6), Evidence.of_classes(torch.tensor([0, 1, 2, 3]))
    plain = plain_guide(PlainEncoder(encoder), evidence, 2.5, 0.1)
    ours = guide(lambda z, t: encoder(z, t, evidence), lambda z, t: encoder(z, t), 2.5)
    for time in (0.05, 0.5, 1.0):
        t = torch.full((4,), time)
        with torch.no_grad():
            torch.testing.assert_close(plain(z, t), ours(z, t), rtol=1e-4, atol=1e-5)


def test_the_optimizers_take_the_same_step(tiny_models: Build) -> None:
    made = tiny_models()
    ours = nn.ModuleDict({"encoder": made.encoder, "decoder": made.decoder})
    plain = copy.deepcopy(ours)
    start = [p.detach().clone() for p in ours.parameters()]
    for model in (ours, plain):
        generator = torch.Generator().manual_seed(0)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
    optimizers = build_optimizers(ours, OptimizerConfig(1e-2, 1e-2))
    optimizers["muon"].precision = torch.bfloat16  # type: ignore[attr-defined]  as torch's own
    for optimizer in optimizers.values():
        optimizer.step()
    for optimizer in plain_optimizers(plain, 1e-2, 1e-2):
        optimizer.step()
    for p, q, before in zip(ours.parameters(), plain.parameters(), start, strict=True):
        moved, other = p.detach() - before, q.detach() - before
        assert float((moved - other).norm() / moved.norm()) < 2.0**-7


def test_batches_of_matrices_equal_a_loop_over_them() -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = [(24, 24), (24, 72), (64, 24), (24, 24), (24, 72)]
    ours, looped = ([nn.Parameter(torch.zeros(s)) for s in shapes] for _ in range(2))
    steps = BatchedMuon(ours, 1.0).step, LoopedMuon(looped, 1.0).step
    for _ in range(4):
        for p, q in zip(ours, looped, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
            p.detach().zero_(), q.detach().zero_()
        for step in steps:
            step()
        for p, q in zip(ours, looped, strict=True):
            assert float(((p - q).norm() / q.norm()).detach()) <= 1e-6


def test_the_averages_agree() -> None:
    model, decay = nn.Linear(3, 3), 0.9
    ours, plain = EMA(model, decay), copy.deepcopy(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    ours.update(10_000)
    plain_average(plain, model, decay)
    torch.testing.assert_close(ours.model.weight, plain.weight)

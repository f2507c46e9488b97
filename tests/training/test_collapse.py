"""The collapse guard and the effective rank."""

import math

import pytest
import torch
from torch import Tensor

from openunite.training.collapse import (
    CollapseError,
    CollapseGuard,
    effective_rank,
    moments,
    pad_latents,
    spread_of,
)


def rows(first: int, *spreads: float) -> list[dict[str, float]]:
    return [{"step": first + i, "latent_spread": s} for i, s in enumerate(spreads)]


def test_constant_latents_are_reported_after_patience() -> None:
    guard = CollapseGuard(start=10, patience=3)
    guard.check(rows(11, 0.01, 0.02))
    with pytest.raises(CollapseError, match=r"step 13 .*by 0\.030 .*lower flow_weight"):
        guard.check(rows(13, 0.03))


def test_steps_before_the_start_do_not_count() -> None:
    guard = CollapseGuard(start=10, patience=3)
    guard.check(rows(1, *[0.0] * 12))  # steps 11 and 12 are the first to count
    assert guard.low_steps == 2
    with pytest.raises(CollapseError):
        guard.check(rows(13, 0.0))


@pytest.mark.parametrize(
    ("steps", "warmup", "start"),
    [(40, 5, 100), (1600, 50, 160), (100_000, 50, 1000), (100_000, 2000, 2000), (300, 200, 100)],
)
def test_long_runs_are_watched_from_their_warm_up_on(steps: int, warmup: int, start: int) -> None:
    assert CollapseGuard.of_run(steps, warmup).start == start


def test_one_good_step_starts_the_count_anew() -> None:
    guard = CollapseGuard(start=0, patience=3)
    guard.check(rows(1, 0.0, 0.0, 0.5, 0.0, 0.0))
    assert guard.low_steps == 2


@pytest.mark.parametrize("spread", [0.05, 0.3, 2.0])
def test_healthy_latents_pass(spread: float) -> None:
    CollapseGuard(start=0, patience=1).check(rows(1, *[spread] * 20))


def test_the_count_goes_on_from_one_call_to_the_next() -> None:
    guard = CollapseGuard(start=0, patience=4)
    for step in range(1, 4):
        guard.check(rows(step, 0.0))
    with pytest.raises(CollapseError):
        guard.check(rows(4, 0.0))


def rank_of(latents: Tensor) -> float:
    return effective_rank(*pad_latents(latents, None, latents.shape[1]))


@pytest.mark.parametrize("rank", [1, 2, 5, 11])
def test_the_effective_rank_of_even_directions_is_their_number(rank: int) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(64, rank, generator=generator)
    samples = torch.linalg.qr(samples - samples.mean(dim=0)).Q  # white
    latents = (samples @ torch.linalg.qr(torch.randn(24, rank, generator=generator)).Q.T) + 3.0
    assert rank_of(latents.reshape(64, 4, 6)) == pytest.approx(rank, rel=1e-3)


def test_a_weak_direction_counts_less() -> None:
    latents = torch.zeros(4, 1, 2)
    latents[:, 0, 0] = torch.tensor([1.0, -1.0, 0.0, 0.0])
    latents[:, 0, 1] = torch.tensor([0.0, 0.0, 0.1, -0.1])
    assert 1.0 < rank_of(latents) < 1.2


def test_constant_latents_have_rank_zero() -> None:
    assert rank_of(torch.ones(8, 2, 3)) == 0.0
    assert rank_of(1e-8 * torch.randn(8, 2, 3)) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_has_no_rank(bad: float) -> None:
    latents = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0))
    latents[3, 1, 2] = bad
    assert math.isnan(rank_of(latents))


def test_the_rank_is_below_the_number_of_samples() -> None:
    latents = torch.randn(5, 10, 10, generator=torch.Generator().manual_seed(0))
    assert 3.5 < rank_of(latents) <= 4.0 + 1e-4


def test_scale_and_offset_do_not_matter() -> None:
    latents = torch.randn(20, 2, 3, generator=torch.Generator().manual_seed(0))
    rank = rank_of(latents)
    assert rank_of(50.0 * latents - 7.0) == pytest.approx(rank, rel=1e-3)


def test_padding_counts_neither_for_the_rank_nor_for_the_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(40, 3, 2, generator=generator)
    mask = torch.arange(3) < torch.randint(1, 4, (40, 1), generator=generator)
    padded, valid = pad_latents(torch.where(mask[..., None], latents, 99.0), mask, 5)
    assert padded.shape == (40, 5, 2)
    expected = [latents[mask[:, k], k].std(dim=0, correction=0).mean() for k in range(3)]
    spread = spread_of(moments(padded, valid))
    assert float(spread) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    constant = pad_latents(torch.ones(40, 3, 2), mask, 5)
    assert effective_rank(*constant) == 0.0
    assert float(spread_of(moments(*constant))) == 0.0


def test_moments_of_parts_add_up() -> None:
    latents = torch.randn(12, 3, 2, generator=torch.Generator().manual_seed(0)) + 5.0
    whole = moments(*pad_latents(latents, None, 3))
    parts = [moments(*pad_latents(part, None, 3)) for part in latents.split(5)]
    assert float(spread_of(torch.stack(parts).sum(0))) == pytest.approx(float(spread_of(whole)))
    expected = latents.double().std(dim=0, correction=0).mean()
    assert float(spread_of(whole)) == pytest.approx(float(expected), rel=1e-9)

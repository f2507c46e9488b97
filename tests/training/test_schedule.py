"""Learning rates and sample order are functions of the optimizer step."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openunite.training.schedule import SampleOrder, learning_rate_factor


@pytest.mark.parametrize("final_share", [0.0, 0.1])
@pytest.mark.parametrize(("steps", "warmup"), [(100, 20), (50, 1), (37, 0)])
def test_the_rate_rises_then_falls_to_its_final_share(
    steps: int, warmup: int, final_share: float
) -> None:
    factors = [learning_rate_factor(s, steps, warmup, final_share) for s in range(steps + 1)]
    rise, fall = factors[:warmup], factors[max(0, warmup - 1) :]
    assert all(a < b for a, b in itertools.pairwise(rise))
    assert rise == pytest.approx([(s + 1) / warmup for s in range(warmup)])
    assert max(factors) == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(fall))
    assert factors[-1] == pytest.approx(final_share, abs=1e-9)
    half = learning_rate_factor(warmup + (steps - warmup) // 2, steps, warmup, final_share)
    assert half == pytest.approx((1 + final_share) / 2, abs=0.05)


def test_the_rate_stays_before_it_falls() -> None:
    factors = [learning_rate_factor(s, 100, 10, 0.1, constant_share=0.4) for s in range(101)]
    assert factors[9:41] == pytest.approx([1.0] * 32)
    assert all(a > b for a, b in itertools.pairwise(factors[40:]))
    assert factors[70] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)
    late = [learning_rate_factor(s, 100, 50, 0.0, constant_share=0.4) for s in range(101)]
    assert late == [learning_rate_factor(s, 100, 50, 0.0) for s in range(101)]


def test_the_first_step_already_learns() -> None:
    assert learning_rate_factor(0, 100, 50, 0.0) == pytest.approx(1 / 50)


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    factors = [learning_rate_factor(s, 10, 50, 0.0) for s in range(10)]
    assert factors == pytest.approx([(s + 1) / 50 for s in range(10)])


@st.composite
def cut_batches(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """(samples, batch_size, seed, accumulation, world_size) that fit each other."""
    accumulation, world = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    batch = accumulation * world * draw(st.integers(1, 4))
    return draw(st.integers(1, 40)), batch, draw(st.integers(0, 9)), accumulation, world


def global_batch(order: SampleOrder, step: int) -> list[int]:
    """By slot, collected from all processes."""
    found: dict[int, int] = {}
    for rank in range(order.world_size):
        mine = list(order.batches(step, step + 1, rank))
        assert len(mine) == order.accumulation
        for micro, indices in enumerate(mine):
            slots = order.slots(micro, rank).tolist()
            assert len(slots) == order.micro_size
            found |= dict(zip(slots, indices, strict=True))
    assert sorted(found) == list(range(order.batch_size))
    return [found[slot] for slot in range(order.batch_size)]


@given(cut_batches(), st.integers(0, 30))
def test_the_global_batch_does_not_depend_on_how_it_is_cut(
    case: tuple[int, int, int, int, int], step: int
) -> None:
    samples, batch, seed, accumulation, world = case
    whole = SampleOrder(samples, batch, seed)
    cut = SampleOrder(samples, batch, seed, accumulation, world)
    assert global_batch(cut, step) == global_batch(whole, step)


@given(st.integers(1, 50), st.integers(1, 17), st.integers(0, 5))
def test_every_sample_comes_once_per_epoch(samples: int, batch: int, seed: int) -> None:
    order = SampleOrder(samples, batch, seed)
    steps = -(-3 * samples // batch)
    stream = list(itertools.chain.from_iterable(order.batches(0, steps, 0)))
    for epoch in range(3):
        part = stream[epoch * samples : (epoch + 1) * samples]
        assert sorted(part) == list(range(samples))


@given(cut_batches(), st.integers(0, 12))
def test_a_resumed_order_continues(case: tuple[int, int, int, int, int], step: int) -> None:
    order = SampleOrder(*case)
    for rank in range(order.world_size):
        whole = list(order.batches(0, 14, rank))
        assert list(order.batches(step, 14, rank)) == whole[step * order.accumulation :]


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    orders = {
        tuple(SampleOrder(50, 50, seed).indices(epoch, torch.arange(50)))
        for seed in range(2)
        for epoch in range(3)
    }
    assert len(orders) == 6
    assert tuple(range(50)) not in orders


@pytest.mark.parametrize(("batch", "accumulation", "world"), [(10, 3, 1), (8, 1, 3), (8, 4, 4)])
def test_an_indivisible_batch_is_refused(batch: int, accumulation: int, world: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size {batch} .*{accumulation} x {world}"):
        SampleOrder(100, batch, 0, accumulation, world)


# ---- samples of different sizes -------------------------------------------------------------


def sized(epochs: int = 3, batch: int = 16, samples: int = 1000) -> tuple[SampleOrder, np.ndarray]:
    sizes = np.random.default_rng(0).integers(3, 30, samples)
    return SampleOrder(samples, batch, seed=1, sizes=sizes), sizes


def test_batches_hold_samples_of_about_one_size() -> None:
    order, sizes = sized()
    plain = SampleOrder(1000, 16, seed=1)

    def padding(which: SampleOrder) -> float:
        batches = [sizes[which.indices(step, torch.arange(16))] for step in range(120)]
        return float(np.mean([1.0 - b.mean() / b.max() for b in batches]))

    assert padding(order) < 0.12 < 0.4 < padding(plain)


def test_grouping_keeps_every_sample_once_per_epoch_and_shuffles_sizes() -> None:
    order, sizes = sized()
    stream = [i for step in range(3 * 1000 // 16) for i in order.indices(step, torch.arange(16))]
    for epoch in range(2):
        assert sorted(stream[1000 * epoch : 1000 * (epoch + 1)]) == list(range(1000))
    means = np.array([sizes[stream[i : i + 16]].mean() for i in range(0, 960, 16)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5  # not small ones first


def test_orders_with_and_without_sizes_do_not_mix() -> None:
    order, _ = sized()
    plain = SampleOrder(1000, 16, seed=1)
    slots = torch.arange(16)
    assert order.indices(0, slots) != plain.indices(0, slots)
    assert order.indices(70, slots) == sized()[0].indices(70, slots)

"""Draws are functions of their address: known answers, independence, distribution."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from openunite import philox as random_module
from openunite.flow.random import SlotRandom, Stream, permutation, seeded_normal
from openunite.philox import philox4x32

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [  # Random123 kat_vectors, philox4x32 10
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
ADDRESS = {"seed": 3, "step": 11, "slot": 5, "stream": Stream.FLOW_NOISE, "draw": 2}
OTHER = {
    "seed": [4, 3 + (1 << 32), 3 + (1 << 55)],
    "step": [12, 11 + (1 << 31)],
    "slot": [6, 5 + (1 << 20)],
    "stream": [Stream.FLOW_TIME, Stream.REGISTERS, Stream.SAMPLE],
    "draw": [0, 3],
}


def slots(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def uniform_at(address: dict[str, int], count: int = 64) -> Tensor:
    source = SlotRandom(address["seed"], address["step"], slots(address["slot"]))
    return source.uniform(Stream(address["stream"]), count, draw=address["draw"])[0]


@pytest.mark.parametrize("made", [torch.tensor, lambda word: np.array([word])])
@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, ...], expected: tuple[int, ...], made: Callable
) -> None:
    words = philox4x32(tuple(map(made, counter)), tuple(map(made, key)))
    assert tuple(word.item() for word in words) == expected


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=9), st.data())
def test_a_sample_ignores_its_batch_mates(numbers: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(numbers) - 1))
    together, alone = (SlotRandom(1, 2, slots(*n)) for n in (numbers, [numbers[place]]))
    for shape in ((), (3, 5)):
        for kind in ("uniform", "normal"):
            whole = getattr(together, kind)(Stream.FLOW_NOISE, *shape, draw=1)
            single = getattr(alone, kind)(Stream.FLOW_NOISE, *shape, draw=1)
            assert whole.shape == (len(numbers), *shape)
            assert torch.equal(whole[place], single[0])


@pytest.mark.parametrize(("part", "value"), [(k, v) for k, vs in OTHER.items() for v in vs])
def test_each_part_of_an_address_changes_every_number(part: str, value: int) -> None:
    here, there = uniform_at(ADDRESS), uniform_at(ADDRESS | {part: value})
    assert set(here.tolist()).isdisjoint(there.tolist())


def test_streams_have_different_numbers() -> None:
    assert len({int(stream) for stream in Stream}) == len(Stream)
    first = [float(uniform_at(ADDRESS | {"stream": stream}, 1)) for stream in Stream]
    assert len(set(first)) == len(Stream)


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    SlotRandom(0, 0, slots(0, 1)).normal(Stream.REGISTERS, 4, 4)
    seeded_normal(slots(1, 2), 3)
    permutation(10, 0, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_uniform_numbers_are_uniform() -> None:
    numbers = SlotRandom(0, 0, torch.arange(500)).uniform(Stream.AUGMENT, 200).double()
    assert stats.kstest(numbers.flatten(), "uniform").pvalue > 1e-3
    assert abs(numbers.mean() - 0.5) < 4 * math.sqrt(1 / 12 / numbers.numel())


def test_normal_numbers_are_normal() -> None:
    numbers = SlotRandom(0, 0, torch.arange(500)).normal(Stream.FLOW_NOISE, 20, 10).double()
    assert stats.kstest(numbers.flatten(), "norm").pvalue > 1e-3
    count = numbers.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((numbers**power).mean() - moment) < 4 * math.sqrt(variance / count)


@pytest.mark.parametrize("part", ["seed", "step", "slot", "draw"])
def test_neighboring_addresses_are_uncorrelated(part: str) -> None:
    rows = torch.stack([uniform_at(ADDRESS | {part: i}, 2000) for i in range(12)])
    correlation = torch.corrcoef(rows) - torch.eye(12)
    assert correlation.abs().max() < 5 / math.sqrt(2000)


@pytest.mark.parametrize("word", [0, ONES])
def test_the_extreme_words_stay_inside_the_open_interval(
    monkeypatch: pytest.MonkeyPatch, word: int
) -> None:
    def constant(counter: tuple[Tensor, ...], key: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(part * 0 + word for part in counter)

    monkeypatch.setattr(random_module, "philox4x32", constant)
    source = SlotRandom(0, 0, slots(0))
    number = source.uniform(Stream.AUGMENT)
    assert 0.0 < float(number) < 1.0
    assert source.normal(Stream.AUGMENT, 4).isfinite().all()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5), (0,)])
def test_any_shape_is_filled(shape: tuple[int, ...]) -> None:
    source = SlotRandom(0, 0, slots(4, 9, 2))
    assert source.uniform(Stream.AUGMENT, *shape).shape == (3, *shape)
    normal = source.normal(Stream.AUGMENT, *shape)
    assert normal.shape == (3, *shape)
    assert normal.unique().numel() == normal.numel()


def test_sampling_noise_of_a_row_depends_on_its_seed_alone() -> None:
    seeds = slots(7, 0, 7, 12345678901, -3)
    rows = seeded_normal(seeds, 4, 3)
    assert torch.equal(rows[0], rows[2])
    for i in range(len(seeds)):
        assert torch.equal(rows[i], seeded_normal(seeds[i : i + 1], 4, 3)[0])


def test_all_64_bits_of_a_sampling_seed_count() -> None:
    rows = seeded_normal(slots(5, *(5 ^ (1 << bit) for bit in range(0, 63, 9))), 8)
    assert rows[:, 0].unique().numel() == len(rows)


def test_no_seeds_give_no_noise() -> None:
    assert seeded_normal(torch.empty(0, dtype=torch.int64), 4, 3).shape == (0, 4, 3)


@given(st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 1000))
def test_a_permutation_holds_every_number_once(size: int, seed: int, epoch: int) -> None:
    order = permutation(size, seed, epoch)
    assert sorted(order.tolist()) == list(range(size))
    assert torch.equal(order, permutation(size, seed, epoch))


def test_permutations_differ_by_seed_and_epoch() -> None:
    orders = [permutation(100, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order.tolist()) for order in orders}) == 9

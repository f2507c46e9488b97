"""What training shows: what is dropped, how often, and by which random numbers."""

from typing import Any

import pytest
import torch
from tests.conditions.test_tokens import PLAIN, encoder_of

from openunite.batch import CLASS, Evidence, Given
from openunite.conditions.drawing import Dropout, draw_evidence
from openunite.flow.random import SlotRandom, Stream

COUNT = 3000
RATES = Dropout(label=0.1, condition=0.25, common=0.2)


def random(slots: Any = range(COUNT)) -> SlotRandom:
    return SlotRandom(seed=1, step=5, slots=torch.tensor(list(slots)))


def batch(count: int = COUNT) -> dict[str, Given]:
    gap = Given(torch.full((count, 2), 3.0), torch.arange(count) % 4 != 0)
    return {
        "tag": Given.of_all(torch.zeros(count, 2)),
        CLASS: Given.of_all(torch.zeros(count, dtype=torch.int64)),
        "gap": gap,
    }


def drawn(draws: tuple[int, ...] = (0,), rates: Dropout = RATES) -> Evidence:
    tokens = encoder_of(PLAIN).condition_tokens
    return draw_evidence(batch(), tokens, rates, random(), draws)


def near(share: torch.Tensor, expected: float) -> bool:
    return abs(float(share.float().mean()) - expected) < 4 * (expected / len(share)) ** 0.5


def test_conditions_are_dropped_alone_and_together() -> None:
    found = drawn().conditions
    known = torch.stack([found[name].known for name in (CLASS, "gap", "tag")])
    there = batch()["gap"].known
    assert not bool((known[1] & ~there).any())
    assert near(known[0], 0.9 * 0.8)
    assert near(known[1][there], 0.75 * 0.8)
    assert near(known[2], 0.75 * 0.8)
    assert near(known[:, there].any(dim=0), 0.8 * (1 - 0.1 * 0.25 * 0.25))


def test_classes_alone_are_dropped_as_ever() -> None:
    """The numbers of runs without other conditions do not change."""
    given = {CLASS: batch()[CLASS]}
    found = draw_evidence(given, encoder_of().condition_tokens, RATES, random(), (0, 1))
    chance = torch.cat([random().uniform(Stream.LABEL_DROPOUT, draw=i) for i in (0, 1)])
    assert torch.equal(found.conditions[CLASS].known, chance >= 0.1)


def test_a_sample_is_shown_the_same_in_every_batch_and_differs_between_draws() -> None:
    tokens, whole = encoder_of(PLAIN).condition_tokens, drawn((0, 1))
    rows = slice(40, 60)
    given = {name: value.rows(rows) for name, value in batch().items()}
    part = draw_evidence(given, tokens, RATES, random(range(40, 60)), (1,))
    for name, value in part.conditions.items():
        first, second = (whole.rows(slice(i, i + COUNT)).rows(rows) for i in (0, COUNT))
        assert torch.equal(second.conditions[name].known, value.known)
        assert torch.equal(second.conditions[name].values, value.values)
        assert not torch.equal(first.conditions[name].known, value.known)


def test_numbers_are_shown_as_ranges_half_of_the_time() -> None:
    low, high = drawn().conditions["gap"].values.unbind(dim=1)
    assert near(low < high, 0.5)


@pytest.mark.parametrize(("rates", "share"), [((0, 0, 0), 1.0), ((0, 0, 1), 0.0), ((1, 1, 0), 0.0)])
def test_rates_of_zero_and_one(rates: tuple[float, ...], share: float) -> None:
    found = drawn(rates=Dropout(*map(float, rates))).conditions
    assert float(found["tag"].known.float().mean()) == share
    assert float(found[CLASS].known.float().mean()) == share

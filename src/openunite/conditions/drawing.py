"""What training shows: conditions, each dropped by chance, numbers as ranges; parts of the data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openunite.batch import CLASS, Conditions, Evidence, Given
from openunite.conditions.tokens import ConditionTokens
from openunite.flow.random import SlotRandom, Stream


@dataclass(frozen=True)
class Dropout:
    """Probabilities: of dropping the class, each other condition, and all of them together."""

    label: float
    condition: float
    common: float


def draw_evidence(
    given: Conditions,
    tokens: ConditionTokens,
    rates: Dropout,
    random: SlotRandom,
    draws: Sequence[int],
) -> Evidence:
    """The conditions of some flow draws, one copy of the batch after the other.

    Random numbers go by the place of a condition in the order of their names. With classes alone
    nothing but the class is dropped, and nothing together.
    """

    def uniform(stream: Stream, *shape: int) -> Tensor:
        return torch.cat([random.uniform(stream, *shape, draw=draw) for draw in draws])

    if not given:
        return Evidence()
    found = Evidence(given).repeat(len(draws)).conditions
    names = sorted(name for name in given if name != CLASS)
    shown: dict[str, Given] = {}
    if CLASS in found:
        shown[CLASS] = found[CLASS].drop(uniform(Stream.LABEL_DROPOUT) < rates.label)
    if not names:
        return Evidence(shown)
    alone = uniform(Stream.CONDITION_DROPOUT, len(names)) < rates.condition
    numbers = uniform(Stream.CONDITION_BLUR, sum(tokens.of(name).uniforms for name in names))
    parts = numbers.split([tokens.of(name).uniforms for name in names], dim=1)
    for i, name in enumerate(names):
        values = tokens.of(name).blur(found[name].values, parts[i])
        shown[name] = Given(values, found[name].known).drop(alone[:, i])
    return Evidence(shown).drop(uniform(Stream.COMMON_DROPOUT) < rates.common)


def partial_draws(step: int, draws: int, share: float) -> set[int]:
    """Those of the flow draws of a step that see a part of the observation, evenly spread.

    Whole draws do, the same for all samples, so that the others keep their cost.
    """
    first = step * draws
    return {i for i in range(draws) if int((first + i + 1) * share) > int((first + i) * share)}


def passes_of(draws: int, partial: set[int], size: int) -> Iterator[list[int]]:
    """The draws of each pass, at most `size` of them; partial ones come last, and apart."""
    for group in (sorted({*range(draws)} - partial), sorted(partial)):
        yield from (group[start : start + size] for start in range(0, len(group), size))

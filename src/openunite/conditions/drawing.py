"""What training shows of the conditions of a batch: each dropped by chance, numbers as ranges."""

from collections.abc import Sequence
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

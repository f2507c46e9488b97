"""The tokens of all conditions of a model, and their place in the sequence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.batch import CLASS, Conditions, Evidence
from openunite.conditions.base import Condition, read
from openunite.settings import expected


class Tokens(NamedTuple):
    """A sequence of tokens (B, S, D) with what attention has to know of it.

    `mask` (B, S) marks the keys that are seen, or holds what is added to their logits; None means
    that all are seen. `angles` (S, half) rotate. `first` is the place of the first register.
    """

    x: Float[Tensor, "b s d"]
    mask: Tensor | None
    angles: Float[Tensor, "s half"]
    first: int = 0


class ConditionTokens(nn.ModuleDict):
    """The conditions of a model by name, built from plain settings; empty without any."""

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], width: int) -> None:
        super().__init__()
        for name in sorted(settings):  # files of settings keep no order
            kind, found = read(name, settings[name])
            self[name] = kind(found, width)

    def of(self, name: str) -> Condition:
        """The condition called `name`."""
        found = self[name]
        assert isinstance(found, Condition)
        return found

    def kinds(self) -> list[Condition]:
        """All conditions, in the order of their names."""
        return list(map(self.of, self))

    def forward(self, given: Conditions, sequence: Tokens) -> Tokens:
        """The sequence with the tokens of the given conditions before it, if there are any.

        They are not rotated. What a sample does not know is masked; what no sample was given has
        no tokens at all.
        """
        if unknown := [name for name in given if name not in self and name != CLASS]:
            known = expected(unknown[0], list(self))
            raise ValueError(f"unknown condition {unknown[0]!r:.60}, {known}")
        names = [name for name in self if name in given]
        if not names:
            return sequence
        tokens, logits = zip(*(self._one(name, given) for name in names), strict=True)
        x = torch.cat([*(part.to(sequence.x.dtype) for part in tokens), sequence.x], dim=1)
        added, angles = torch.cat(logits, dim=1), sequence.angles
        rest = added.new_zeros(sequence.x.shape[:2])
        if sequence.mask is not None:
            rest = rest.masked_fill(~sequence.mask, -torch.inf)
        count = added.shape[1]
        angles = torch.cat([angles.new_zeros(count, angles.shape[1]), angles])
        return Tokens(x, torch.cat([added, rest], dim=1), angles, sequence.first + count)

    def _one(self, name: str, given: Conditions) -> tuple[Tensor, Tensor]:
        """Tokens (B, P, D) of one condition, and what is added to the logits of its keys."""
        condition, known = self.of(name), given[name].known
        tokens, stands = condition(given[name].values)
        bias = condition.logit_bias.expand(stands.shape)
        return tokens, bias.masked_fill(~(stands & known[:, None]), -torch.inf)


def see_before(mask: Tensor, count: int) -> Tensor:
    """The mask of a sequence (B, S) with so many more keys in front, all of them seen."""
    return nn.functional.pad(mask, (count, 0), value=float(not mask.is_floating_point()))


def seen_mask(
    mask: Bool[Tensor, "b k"] | None, evidence: Evidence, registers: int
) -> Bool[Tensor, "b s"] | None:
    """Which registers and observation tokens are seen; None if all are."""
    visible = evidence.visible
    if visible is None:
        return None if mask is None else torch.cat([mask, mask], dim=1)
    if mask is None:
        return nn.functional.pad(visible, (registers, 0), value=True)
    return torch.cat([mask, mask & visible], dim=1)

"""One of several names, or several of them at once: tags, space groups, sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.conditions.base import Condition
from openunite.settings import expected

NUM_TOKENS = 4
_MOST_NAMES = 10_000


@dataclass(frozen=True)
class CategorySettings:
    """`names` in order; `most` is the largest number of them that one sample has."""

    names: tuple[str, ...]
    most: int = 1

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not 1 <= self.most <= len(self.names):
            raise ValueError("expected different names, and at most all of them at once")


class Category(Condition):
    """Rows of `most` indices, -1 behind them. The tokens are a function of the sum of vectors."""

    Settings = CategorySettings
    settings: CategorySettings

    def __init__(self, settings: CategorySettings, width: int) -> None:
        super().__init__(settings, width)
        self.embedding = nn.Embedding(len(settings.names), width)
        self.mlp_out = nn.Linear(width, NUM_TOKENS * width)

    @classmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> CategorySettings:
        """The names that occur: numbers in their order, then text in its."""
        rows = [_members(value) for value in column]
        names = {name for row in rows for name in row}
        if not 2 <= len(names) <= _MOST_NAMES:
            raise ValueError(f"expected 2 to {_MOST_NAMES:,} different names, got {len(names)}")
        numbers = sorted((n for n in names if n.isdecimal()), key=lambda n: (int(n), n))
        return CategorySettings((*numbers, *sorted(names - {*numbers})), max(map(len, rows)))

    @classmethod
    def suits(cls, column: Sequence[Any]) -> bool:
        """Whether names come again often enough to be learned."""
        try:
            names = [name for value in column for name in _members(value)]
        except ValueError:
            return False
        return len(names) >= 2 * len(set(names))

    @classmethod
    def parse(cls, value: Any, settings: CategorySettings) -> list[float]:
        """A name, an index, or a tuple or set of them, or names parted by commas."""
        chosen: list[float] = []
        if isinstance(value, str) and value.strip() not in settings.names and "," in value:
            value = tuple(value.split(","))
        for member in _members(value):
            if member in settings.names:
                chosen.append(settings.names.index(member))
            elif member.isdecimal() and int(member) < len(settings.names):
                chosen.append(int(member))
            else:
                raise ValueError(f"unknown name {member!r:.60}, {expected(member, settings.names)}")
        if len(chosen) > settings.most:
            raise ValueError(
                f"expected at most {settings.most} at once, as in the training data, got "
                f"{len(chosen)}"
            )
        return sorted(chosen) + [-1.0] * (settings.most - len(chosen))

    @classmethod
    def describe(cls, settings: CategorySettings) -> str:
        """The names, with an example."""
        shown = ", ".join(settings.names[:20]) + (", ..." if len(settings.names) > 20 else "")
        several = f"up to {settings.most} of" if settings.most > 1 else "one of"
        return f"{several} {shown}, such as {settings.names[0]}"

    @property
    def num_tokens(self) -> int:
        return NUM_TOKENS

    def forward(
        self, values: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
        members = values.long()
        vectors = self.embedding(members.clamp_min(0)) * (members >= 0)[:, :, None]
        hidden = nn.functional.silu(vectors.sum(dim=1))
        tokens = self.mlp_out(hidden).unflatten(1, (NUM_TOKENS, self.width))
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def _members(value: Any) -> list[str]:
    """The names in a value, without repeats. ValueError for what is no name."""
    several = value if isinstance(value, tuple | list | set | frozenset) else [value]
    if not several or not all(isinstance(v, str | Integral) for v in several):
        raise ValueError(f"expected a name, an index, or a tuple of them, got {value!r:.60}")
    return sorted({str(v).strip() for v in several})

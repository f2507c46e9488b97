"""A chemical formula: which elements, in which ratio."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.conditions.base import Condition
from openunite.data.atoms.elements import BY_ELECTRONEGATIVITY, MAX_NUMBER, atomic_number, symbol_of
from openunite.nn.embeddings import fourier_features

_FREQUENCIES = 8
_PERIOD = 16  # of counts: the shortest wave then tells odd from even, the longest has 256 atoms
_PART = re.compile(r"([A-Z][a-z]?|\(|\))(\d*)")
Counts = dict[int, int]  # atomic number -> how many


@dataclass(frozen=True)
class CompositionSettings:
    """`elements` are the symbols that training saw; `most` is the most of them in a formula.

    With `counts`, tokens also tell how many atoms there are, which decides valences in molecules.
    """

    elements: tuple[str, ...]
    most: int
    counts: bool = False

    def __post_init__(self) -> None:
        for symbol in self.elements:
            atomic_number(symbol)
        if not 1 <= self.most <= MAX_NUMBER or not self.elements:
            raise ValueError(f"expected elements, and 1 to {MAX_NUMBER} of them in a formula")


class Composition(Condition):
    """Rows of `most` pairs (atomic number, count), zeros behind them; one token per element.

    Tokens tell an element and its fraction: LiFePO4 and Li4Fe4P4O16 are alike here, unless `counts`
    is set.
    """

    Settings = CompositionSettings
    settings: CompositionSettings
    places: Tensor

    def __init__(self, settings: CompositionSettings, width: int) -> None:
        super().__init__(settings, width)
        places = torch.zeros(MAX_NUMBER + 1, dtype=torch.int64)
        places[[atomic_number(s) for s in settings.elements]] = torch.arange(len(settings.elements))
        self.register_buffer("places", places, persistent=False)
        self.embedding = nn.Embedding(len(settings.elements), width)
        features = 1 + 2 * _FREQUENCIES * (2 if settings.counts else 1)
        self.mlp_in = nn.Linear(width + features, width)
        self.mlp_out = nn.Linear(width, width)

    @classmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> CompositionSettings:
        """The elements that occur, and the most of them in one formula."""
        found = [counts_of(value) for value in column]
        numbers = sorted(set().union(*found))
        return CompositionSettings(tuple(map(symbol_of, numbers)), max(map(len, found)))

    @classmethod
    def suits(cls, column: Sequence[Any]) -> bool:
        """Whether all are formulas, and at least one is more than a symbol."""
        try:
            sizes = [sum(counts_of(value).values()) for value in column]
        except ValueError:
            return False
        return max(sizes) > 1

    @classmethod
    def parse(cls, value: Any, settings: CompositionSettings) -> list[float]:
        """ "LiFePO4", "Ca(OH)2" or {"Li": 1, "Fe": 1, "P": 1, "O": 4}."""
        counts = counts_of(value)
        for symbol in map(symbol_of, counts):
            if symbol not in settings.elements:
                raise ValueError(
                    f"{symbol} does not occur in the training data; its elements are "
                    f"{', '.join(settings.elements)}"
                )
        if len(counts) > settings.most:
            raise ValueError(
                f"expected at most {settings.most} elements, as in the training data, got "
                f"{len(counts)} in {formula_of(counts)}"
            )
        pairs = [float(n) for pair in sorted(counts.items()) for n in pair]
        return pairs + [0.0] * (2 * settings.most - len(pairs))

    @classmethod
    def describe(cls, settings: CompositionSettings) -> str:
        """The elements, with an example."""
        example = formula_of({atomic_number(s): 1 for s in settings.elements[: settings.most][-2:]})
        known = " ".join(settings.elements)
        return f"a formula of up to {settings.most} of {known}, such as {example}"

    @property
    def num_tokens(self) -> int:
        return self.settings.most

    def forward(
        self, values: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
        numbers, counts = values.unflatten(1, (-1, 2)).unbind(dim=2)
        share = (counts / counts.sum(dim=1, keepdim=True).clamp_min(1.0))[:, :, None].float()
        features = torch.cat([share, fourier_features(share, _FREQUENCIES)], dim=2)
        if self.settings.counts:
            atoms = fourier_features(counts[:, :, None].float() / _PERIOD, _FREQUENCIES)
            features = torch.cat([features, atoms], dim=2)
        vectors = self.embedding(self.places[numbers.long()])
        joined = torch.cat([vectors, features.to(vectors.dtype)], dim=2)
        return self.mlp_out(nn.functional.silu(self.mlp_in(joined))), numbers > 0


def counts_of(value: Any) -> Counts:
    """The atoms of a formula by atomic number. ValueError for anything else."""
    if isinstance(value, Mapping):
        pairs = [(atomic_number(str(symbol)), count) for symbol, count in value.items()]
        counts = {number: int(n) for number, n in pairs if isinstance(n, Integral) and int(n) > 0}
        if not pairs or len(counts) < len(pairs):
            raise ValueError(f"expected whole numbers of atoms by symbol, got {value!r:.60}")
        return counts
    text = value.replace(" ", "") if isinstance(value, str) else ""
    levels: list[Counts] = [{}]
    for part in (parts := list(_PART.finditer(text))):
        times = int(part[2] or 1)
        if part[1] == "(":
            levels.append({})
            times *= 0 if part[2] else 1
        inner = {atomic_number(part[1]): 1} if part[1].isalpha() else {}
        if part[1] == ")":
            inner = levels.pop() if len(levels) > 1 else {}
        if not times or (part[1] != "(" and not inner):
            break
        for number, count in inner.items():
            levels[-1][number] = levels[-1].get(number, 0) + times * count
    else:
        if levels[0] and len(levels) == 1 and "".join(p[0] for p in parts) == text:
            return levels[0]
    raise ValueError(f"expected a formula such as LiFePO4, got {value!r:.60}")


def formula_of(counts: Counts) -> str:
    """{8: 4, 3: 1, 26: 1, 15: 1} -> "LiFePO4", by electronegativity, as formulas are written."""
    ordered = sorted(counts.items(), key=lambda pair: BY_ELECTRONEGATIVITY.index(pair[0]))
    return "".join(f"{symbol_of(n)}{c if c > 1 else ''}" for n, c in ordered)

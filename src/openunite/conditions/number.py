"""A number or a range of numbers, such as a band gap or a density."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.conditions.base import Condition
from openunite.nn.embeddings import fourier_features

NUM_TOKENS = 4
_FREQUENCIES = 12


@dataclass(frozen=True)
class NumberSettings:
    """`mean` and `std` standardize; `low` and `high` are the ends of what training saw."""

    mean: float
    std: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.mean, self.std, self.low, self.high)
        if not all(map(math.isfinite, numbers)) or self.std <= 0.0 or self.low > self.high:
            raise ValueError(f"expected finite numbers with std > 0 and low <= high, got {self}")


class Number(Condition):
    """Rows (lo, hi), equal for a number. Training shows a random range around half of them."""

    Settings = NumberSettings
    settings: NumberSettings
    uniforms = 3

    def __init__(self, settings: NumberSettings, width: int) -> None:
        super().__init__(settings, width)
        self.mlp_in = nn.Linear(2 * (1 + 2 * _FREQUENCIES), width)
        self.mlp_out = nn.Linear(width, NUM_TOKENS * width)

    @classmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> NumberSettings:
        """Mean, standard deviation and range."""
        values = torch.tensor([_finite(value) for value in column], dtype=torch.float64)
        std = float(values.std())
        if not std > 1e-12 * max(1e-300, float(values.abs().max())):
            raise ValueError(f"all its values are {float(values[0]):g}, so nothing can be learned")
        return NumberSettings(float(values.mean()), std, float(values.min()), float(values.max()))

    @classmethod
    def suits(cls, column: Sequence[Any]) -> bool:
        """Whether all are finite numbers, or text that reads as such."""
        try:
            return all(math.isfinite(_finite(value)) for value in column)
        except ValueError:
            return False

    @classmethod
    def parse(cls, value: Any, settings: NumberSettings) -> list[float]:
        """4.2, "4.2", (4, 5) or "4..5"; an end that is None or empty is that of training.

        Warns of a range that lies outside the values seen in training.
        """
        low, high = _ends(value)
        if low is high is None:
            raise ValueError(f"expected a number or at least one end of a range, got {value!r:.60}")
        low = settings.low if low is None else _finite(low)
        high = settings.high if high is None else _finite(high)
        if low > high:
            raise ValueError(f"expected a range with its lower end first, got {low:g}..{high:g}")
        if high < settings.low or low > settings.high:
            warnings.warn(
                f"{value!r:.60} lies outside {settings.low:g}..{settings.high:g}, the values seen "
                "in training; samples may not follow it",
                stacklevel=2,
            )
        return [low, high]

    @classmethod
    def describe(cls, settings: NumberSettings) -> str:
        """The range, with an example."""
        middle = f"{settings.mean:.4g}..{settings.mean + settings.std:.4g}"
        return f"a number or a range, {settings.low:g} to {settings.high:g}, such as {middle}"

    @property
    def num_tokens(self) -> int:
        return NUM_TOKENS

    def blur(
        self, values: Float[Tensor, "b f"], uniform: Float[Tensor, "b u"]
    ) -> Float[Tensor, "b f"]:
        """Half of the numbers as a range around them, of any width, narrow ones more often."""
        chosen, width, place = uniform.to(values).split(1, dim=1)
        width = (chosen < 0.5) * (self.settings.high - self.settings.low) * width.square()
        return values + torch.cat([-place * width, (1.0 - place) * width], dim=1)

    def forward(
        self, values: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
        z = ((values.float() - self.settings.mean) / self.settings.std)[:, :, None]
        # tanh keeps what is far outside the training values within the reach of the weights.
        features = torch.cat([4.0 * torch.tanh(z / 4.0), fourier_features(z, _FREQUENCIES)], dim=2)
        hidden = nn.functional.silu(self.mlp_in(features.flatten(1).to(self.mlp_in.weight.dtype)))
        tokens = self.mlp_out(hidden).unflatten(1, (NUM_TOKENS, self.width))
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def _ends(value: Any) -> tuple[Any, Any]:
    """Both ends of a range, None where it is open; twice the same for a number."""
    if isinstance(value, str) and ".." in value:
        low, _, high = value.partition("..")
        return low.strip() or None, high.strip() or None
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"expected a range of two numbers, got {value!r:.60}")
        return value[0], value[1]
    return value, value


def _finite(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, Real | str | Tensor) else math.nan
    except (ValueError, RuntimeError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"expected a finite number or a range such as 4..5, got {value!r:.60}")
    return number

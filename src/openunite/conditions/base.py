"""The contract of a kind of condition, and the kinds there are.

A condition is a column of the data under a name: a number, a formula, categories. Its kind is one
file: what it makes of a column (`fit`), of a user's value (`parse`) and of a batch (`forward`).
Another package adds a kind with an entry point of the group `openunite.conditions`.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from openunite.batch import CLASS
from openunite.registry import Registry
from openunite.settings import build

CONDITIONS = Registry(
    "openunite.conditions",
    {
        "number": "openunite.conditions.number:Number",
        "composition": "openunite.conditions.composition:Composition",
        "text": "openunite.conditions.text.scratch:ScratchText",
        "category": "openunite.conditions.category:Category",
        "static": "openunite.conditions.text.static:StaticText",
        "hf": "openunite.conditions.text.transformer:TransformerText",
    },
)
MISSING = ("", "nan", "na", "n/a", "none", "null", "?")
UNSEEN = 2e-6  # strength of a condition that joins a trained model, which goes on as before
_LEAST = 1e-6
_NAME = re.compile(r"[A-Za-z]\w*")


class Condition(nn.Module, ABC):
    """One condition of a model: plain `settings` and the layers that turn values into tokens.

    `Settings` is a frozen dataclass of plain values, saved with the model. A value is a row of
    numbers (F,). `uniforms` is the number of random numbers that `blur` takes for each sample.
    `source` is the setting that names a file or a model which the kind builds on, if it needs one:
    `fit` takes it as its second argument.
    """

    Settings: ClassVar[type]
    source: ClassVar[str] = ""
    uniforms: int = 0

    def __init__(self, settings: Any, width: int) -> None:
        super().__init__()
        self.settings, self.width = settings, width
        self.strength = nn.Parameter(torch.ones(1))

    @property
    def logit_bias(self) -> Float[Tensor, " 1"]:
        """What is added to the logits of all its keys: log |strength|.

        `strength` multiplies their attention before it is normalized. Its gradient does not vanish
        where it is small, as that of the logarithm would.
        """
        return self.strength.float().abs().clamp_min(_LEAST).log()

    @classmethod
    @abstractmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> Any:
        """Settings that suit the values of a column, none of them missing. ValueError if none."""

    @classmethod
    @abstractmethod
    def suits(cls, column: Sequence[Any]) -> bool:
        """Whether a column looks like one of this kind."""

    @classmethod
    @abstractmethod
    def parse(cls, value: Any, settings: Any) -> list[float]:
        """The row of a user's value. ValueError, in one sentence, for what cannot be asked for."""

    @classmethod
    @abstractmethod
    def describe(cls, settings: Any) -> str:
        """What can be asked for, in words, with an example."""

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """P, the tokens of each sample."""

    def blur(
        self, values: Float[Tensor, "b f"], uniform: Float[Tensor, "b u"]
    ) -> Float[Tensor, "b f"]:
        """The values as training shows them; a range around a number, for example."""
        return values

    @abstractmethod
    def forward(
        self, values: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
        """Tokens, and which of them stand for something."""


def get_kind(name: str) -> type[Condition]:
    """The kind called `name`. ValueError, with the nearest name, for one nobody knows."""
    found: type[Condition] = CONDITIONS.get(name)
    return found


def read(name: str, plain: Mapping[str, Any]) -> tuple[type[Condition], Any]:
    """The kind and the settings of a condition from plain values, as files hold them.

    ValueError names the condition and what is wrong with it.
    """
    check_name(name)
    if not isinstance(plain, Mapping) or not isinstance(plain.get("kind"), str):
        raise ValueError(f"condition {name} must be a mapping with a kind, got {plain!r:.100}")
    values = {key: value for key, value in plain.items() if key != "kind"}
    try:
        kind = get_kind(plain["kind"])
        return kind, build(kind.Settings, values, what="setting")
    except ValueError as error:
        raise ValueError(f"condition {name}: {error}") from error


def fit(name: str, kind_name: str, column: Sequence[Any], source: str = "") -> dict[str, Any]:
    """Plain settings of a condition that suit a column; what is missing there does not count.

    `source` is for kinds that build on a file or a model.
    """
    check_name(name)
    known = [value for value in column if not is_missing(value)]
    try:
        if len(known) < 2:
            raise ValueError(f"expected at least 2 known values, got {len(known)}")
        kind = get_kind(kind_name)
        if kind.source and not source:
            raise ValueError(f"kind {kind_name} needs its {kind.source}: {name}={kind_name}:PATH")
        plain = asdict(kind.fit(known, source) if kind.source else kind.fit(known)).items()
        on = ((k, v) for k, v in plain if v is not False)  # files leave out what is off
        return {"kind": kind_name} | {k: [*v] if isinstance(v, tuple) else v for k, v in on}
    except ValueError as error:
        raise ValueError(f"condition {name}: {error}") from error


def guess(name: str, column: Sequence[Any]) -> str:
    """The name of the first kind that suits a column. ValueError if none does."""
    known = [value for value in column if not is_missing(value)]
    for kind in CONDITIONS.names():
        if known and get_kind(kind).suits(known):
            return kind
    example = f", such as {known[0]!r:.60}," if known else ""
    raise ValueError(
        f"condition {name}: the kind of its values{example} could not be guessed; name one of "
        f"{', '.join(CONDITIONS.names())}"
    )


def parse(name: str, plain: Mapping[str, Any], value: Any) -> list[float]:
    """The row of a user's value. ValueError names the condition."""
    kind, settings = read(name, plain)
    try:
        return kind.parse(value, settings)
    except ValueError as error:
        raise ValueError(f"condition {name}: {error}") from error


def is_missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, an empty list, or a cell that says so."""
    if isinstance(value, str):
        return value.strip().lower() in MISSING
    if isinstance(value, tuple | list | set | frozenset | dict):
        return not value
    return value is None or (isinstance(value, float) and math.isnan(value))


def check_name(name: str) -> None:
    """ValueError for a name that no condition can have."""
    taken = hasattr(nn.ModuleDict(), name) or name == CLASS
    if not isinstance(name, str) or not _NAME.fullmatch(name) or taken:
        raise ValueError(
            "the name of a condition must be letters, digits and underscores, and no word of "
            f"Python's or torch's such as class or type; got {name!r:.60}, choose another one"
        )

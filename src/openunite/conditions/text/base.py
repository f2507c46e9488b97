"""What all kinds of text share: rows of ids, dropped words, and tokens of words in context."""

import re
import unicodedata
import warnings
from abc import abstractmethod
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openunite.conditions.base import Condition
from openunite.nn.block import PlainBlock

MAX_LENGTH = 32  # of the captions of the training data; the setting `length` may be longer
_COVERED = 0.99  # share of the captions that fit into the length
_THINNED = 1 / 3  # share of the captions of which training shows only some words
_DEPTH = 2
_EXAMPLE = 80
_WORD = re.compile(r"\w+|[^\w\s]")


class Text(Condition):
    """Rows of `length` ids, zeros behind them: id i + 1 stands for vector i of the kind.

    In a third of the draws training shows some words alone, a share U(0, 1) of them, so that a
    part of a caption can be asked for. Blocks of its own let each word see the others.
    """

    def __init__(self, settings: Any, width: int, dim: int, depth: int = _DEPTH) -> None:
        super().__init__(settings, width)
        self.uniforms = 2 + settings.length
        heads = next(n for n in range(max(1, width // 32), 0, -1) if width % n == 0)
        self.lift = nn.Linear(dim, width)
        self.word_positions = nn.Parameter(torch.zeros(settings.length, width))
        self.layers = nn.ModuleList(PlainBlock(width, heads, 4 * width) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width)
        self.mlp_out = nn.Linear(width, width)

    @classmethod
    def suits(cls, column: Sequence[Any]) -> bool:
        """Never chosen by a look at a column: the source of the vectors has to be named."""
        return False

    @abstractmethod
    def vectors(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
        """A vector for each id; any where the id is 0."""

    def begins_word(self, ids: Int[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
        """Which ids begin a word; by default each is a word of its own."""
        return ids > 0

    @property
    def num_tokens(self) -> int:
        length: int = self.settings.length
        return length

    def blur(
        self, values: Float[Tensor, "b f"], uniform: Float[Tensor, "b u"]
    ) -> Float[Tensor, "b f"]:
        """A third of the captions with some of their words left out, the others closed up."""
        chosen, share, each = uniform.split([1, 1, values.shape[1]], dim=1)
        ids = values.long()
        word = (self.begins_word(ids).cumsum(dim=1) - 1).clamp_min(0)
        kept = (ids > 0) & ((chosen >= _THINNED) | (each.gather(1, word) < share))
        order = (~kept).int().argsort(dim=1, stable=True)
        return values.gather(1, order) * kept.gather(1, order)

    def forward(
        self, values: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b p d"], Bool[Tensor, "b p"]]:
        ids = values.long()
        stands = ids > 0
        vectors = self.vectors(ids).to(self.lift.weight.dtype)
        x = self.lift(vectors) + self.word_positions
        # An empty row sees its first place: attention to nothing at all is not a number.
        seen = torch.cat([torch.ones_like(stands[:, :1]), stands[:, 1:]], dim=1)
        for layer in self.layers:
            x = layer(x, seen)
        return self.mlp_out(self.norm_out(x)), stands


def check_sizes(dim: int, length: int) -> None:
    """Raise ValueError for vectors of no numbers, or rows of no ids."""
    if dim < 1 or length < 1:
        raise ValueError(f"expected dim and length of at least 1, got {dim}, {length}")


def text_of(value: Any) -> str:
    """A caption with single spaces. ValueError for what is no text."""
    if isinstance(value, bool) or not isinstance(value, str | Real):
        raise ValueError(f"expected text, got {value!r:.60}")
    return " ".join(str(value).split())


def words_of(text: str) -> list[str]:
    """The words and signs of a text, without the case of letters."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def length_for(counts: Sequence[int]) -> int:
    """The number of ids that all but a few captions do with, at most `MAX_LENGTH`."""
    return max(1, min(MAX_LENGTH, sorted(counts)[int(_COVERED * (len(counts) - 1))]))


def example_of(texts: Sequence[str]) -> str:
    """One of the texts, to show what they are like."""
    return next((text for text in texts if len(text) <= _EXAMPLE), texts[0][:_EXAMPLE])


def place_of(source: str) -> str:
    """The whole path of a file or a folder; any other name as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def row_of(ids: Sequence[int], length: int) -> list[float]:
    """Ids from 1 with zeros behind them; warns if some do not fit."""
    if len(ids) > length:
        warnings.warn(
            f"the text has {len(ids)} parts, of which the model reads the first {length}; write it "
            "shorter",
            stacklevel=3,
        )
    return [float(i) for i in ids[:length]] + [0.0] * (length - len(ids))


def warn_of_words(unknown: Sequence[str], known: Sequence[str], where: str) -> None:
    """Warn of words that mean nothing to a model, with the nearest one that does."""
    for word in unknown:
        close = get_close_matches(word, known, 1)
        nearest = f"; the nearest is {close[0]!r}" if close else ""
        warnings.warn(f"the word {word!r:.60} {where}{nearest}", stacklevel=3)

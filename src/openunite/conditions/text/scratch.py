"""Text whose pieces of words, and what they mean, are learned from the captions alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from openunite.conditions.text.base import (
    Text,
    example_of,
    length_for,
    row_of,
    text_of,
    warn_of_words,
    words_of,
)
from openunite.optional import optional

_START = "▁"  # begins the first piece of a word
_MOST_PIECES = 4096
_SEEN = 2  # how often a piece has to occur
_CJK = "\u2e80"  # from here on, scripts do not part their words
_LONG = 3  # words of a caption; shorter ones that come again and again are categories


@dataclass(frozen=True)
class TextSettings:
    """`pieces` are parted by spaces; `length` is the most of them that one caption has."""

    pieces: str
    length: int
    example: str = ""

    def __post_init__(self) -> None:
        names = self.pieces.split()
        if not names or len(set(names)) != len(names) or self.length < 1:
            raise ValueError("expected different pieces of words, and a length of at least 1")


class ScratchText(Text):
    """Pieces of words by byte-pair encoding, read longest first."""

    Settings = TextSettings
    settings: TextSettings
    starts: Tensor

    def __init__(self, settings: TextSettings, width: int) -> None:
        super().__init__(settings, width, width)
        pieces = settings.pieces.split()
        self.embedding = nn.Embedding(1 + len(pieces), width)
        starts = torch.tensor([False, *(piece.startswith(_START) for piece in pieces)])
        self.register_buffer("starts", starts, persistent=False)

    @classmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> TextSettings:
        """The pieces that the captions need. ImportError without the package `tokenizers`."""
        texts = [text_of(value) for value in column]
        words = [words_of(text) for text in texts]
        found = _index(_learn(words))
        spelled = {word: _spell(word, found) for row in words for word in row}
        used = {piece for parts in spelled.values() for piece in parts or ()}
        counts = [sum(len(spelled[word] or ()) for word in row) for row in words]
        pieces = " ".join(piece for piece in found if piece in used)
        return TextSettings(pieces, length_for(counts), example_of(texts))

    @classmethod
    def suits(cls, column: Sequence[Any]) -> bool:
        """Whether all are texts, and long ones or mostly different ones."""
        if not all(isinstance(value, str) for value in column):
            return False
        words = sum(len(value.split()) for value in column)
        return words >= _LONG * len(column) or len(column) < 2 * len(set(column))

    @classmethod
    def parse(cls, value: Any, settings: TextSettings) -> list[float]:
        """A caption, or a part of one. Warns of words that are hardly in the training captions."""
        ids, words = _ids(settings.pieces), words_of(text_of(value))
        spelled = {word: _spell(word, ids) for word in words}
        rare = [w for w, parts in spelled.items() if w[0].isalnum() and w < _CJK and _odd(parts)]
        if rare:
            known = [piece[1:] for piece in ids if piece.startswith(_START)]
            warn_of_words(rare, known, "occurs at most once in the training captions")
        return row_of(
            [ids[part] for word in words for part in spelled[word] or ()], settings.length
        )

    @classmethod
    def describe(cls, settings: TextSettings) -> str:
        """How long a text may be, with an example."""
        count = len(settings.pieces.split())
        return (
            f"up to {settings.length} of {count:,} words and pieces of words, such as "
            f"{settings.example!r}"
        )

    def begins_word(self, ids: Int[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
        return self.starts[ids]

    def vectors(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
        found: Tensor = self.embedding(ids)
        return found


def _odd(parts: tuple[str, ...] | None) -> bool:
    """Whether a word is none of the pieces."""
    return parts is None or len(parts) > 1


def _learn(words: Sequence[Sequence[str]]) -> list[str]:
    """Pieces of words by byte-pair encoding; the same words give the same pieces."""
    tokenizers = optional("tokenizers", "text", "learning the words of captions")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=_MOST_PIECES, min_frequency=_SEEN, show_progress=False
    )
    texts = (" ".join(_START + word for word in row) for row in words)
    tokenizer.train_from_iterator(texts, trainer)
    ranks = tokenizer.get_vocab()
    return sorted(ranks, key=ranks.__getitem__)


def _spell(word: str, known: Mapping[str, int]) -> tuple[str, ...] | None:
    """The pieces of a word, the longest first; None if it cannot be spelled."""
    rest, parts = _START + word, []
    while rest:
        size = next((n for n in range(len(rest), 0, -1) if rest[:n] in known), 0)
        if not size:
            return None
        parts.append(rest[:size])
        rest = rest[size:]
    return tuple(parts)


def _index(pieces: Iterable[str]) -> dict[str, int]:
    """Ids from 1; 0 is no piece."""
    return {piece: i for i, piece in enumerate(pieces, start=1)}


@lru_cache(maxsize=8)
def _ids(pieces: str) -> dict[str, int]:
    """The ids of pieces parted by spaces."""
    return _index(pieces.split())

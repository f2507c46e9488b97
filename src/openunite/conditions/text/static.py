"""Text by a table of vectors, one for each word, which stays as it is: GloVe, fastText and others.

The table is a text file with a word and its numbers in each line, an .npz with `words` and
`vectors`, or a .safetensors file of one matrix beside the `tokenizer.json` that numbers its rows.
`wordllama` is the table of that package. The vectors are no part of a saved model: it reads them
from the same file, and refuses another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from openunite.conditions.text.base import (
    Text,
    check_sizes,
    example_of,
    length_for,
    place_of,
    row_of,
    text_of,
    warn_of_words,
    words_of,
)
from openunite.files import sha256_of
from openunite.optional import optional

WORDLLAMA = "wordllama"


@dataclass(frozen=True)
class StaticSettings:
    """`table` is the file of `checksum` with vectors of `dim` numbers, `length` the most ids."""

    table: str
    checksum: str
    dim: int
    length: int
    example: str = ""

    def __post_init__(self) -> None:
        check_sizes(self.dim, self.length)


class StaticText(Text):
    """Words as vectors of a table, projected, and blocks in which they see each other."""

    Settings = StaticSettings
    settings: StaticSettings
    source: ClassVar[str] = "table"

    def __init__(self, settings: StaticSettings, width: int) -> None:
        super().__init__(settings, width, settings.dim)
        self._table: Tensor | None = None

    @classmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> StaticSettings:
        """The table, and the length of the captions in its words."""
        table = _load(source)
        texts = [text_of(value) for value in column]
        counts = [len(table.ids(text)[0]) for text in texts]
        if not any(counts):
            raise ValueError(f"{source} has no vector for any word of the captions")
        dim, source = table.vectors.shape[1], place_of(source)
        return StaticSettings(source, table.checksum, dim, length_for(counts), example_of(texts))

    @classmethod
    def parse(cls, value: Any, settings: StaticSettings) -> list[float]:
        """A caption, or a part of one. Warns of words without a vector."""
        table = _checked(settings)
        ids, unknown = table.ids(text_of(value))
        warn_of_words(unknown, table.words, f"has no vector in {settings.table}")
        return row_of(ids, settings.length)

    @classmethod
    def describe(cls, settings: StaticSettings) -> str:
        """How long a text may be, with an example."""
        return (
            f"up to {settings.length} words with vectors in {settings.table}, such as "
            f"{settings.example!r}"
        )

    def vectors(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
        if self._table is None or self._table.device != ids.device:
            self._table = _checked(self.settings).vectors.to(ids.device)
        return self._table[(ids - 1).clamp_min(0)]


@dataclass(frozen=True, eq=False)
class _Table:
    """Vectors (V, D) of std 1; `ids` gives those of a text, from 1, and its unknown words."""

    vectors: Float[Tensor, "v d"]
    ids: Callable[[str], tuple[list[int], list[str]]]
    words: Sequence[str]
    checksum: str


def _checked(settings: StaticSettings) -> _Table:
    """The table of a model. ValueError if it is another one than in training."""
    table = _load(settings.table)
    if table.checksum != settings.checksum or table.vectors.shape[1] != settings.dim:
        raise ValueError(
            f"{settings.table} is another table than the model was trained with; restore the file "
            f"with the sha256 {settings.checksum[:16]}..."
        )
    return table


@lru_cache(maxsize=4)
def _load(source: str) -> _Table:
    """A table from a file. FileNotFoundError or ValueError if there is none."""
    path = _wordllama() if source == WORDLLAMA else Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no table of vectors at {path}; give a file, or {WORDLLAMA}")
    try:
        if path.suffix == ".safetensors":
            return _by_tokenizer(path)
        words, vectors = _npz(path) if path.suffix == ".npz" else _text(path)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is no table of vectors ({error}); expected a word and its numbers in each "
            "line, or an .npz with words and vectors"
        ) from error
    index = {word: i for i, word in enumerate(words, start=1)}

    def ids(text: str) -> tuple[list[int], list[str]]:
        found = words_of(text)
        unknown = [word for word in found if word not in index and word[0].isalnum()]
        return [index[word] for word in found if word in index], unknown

    return _Table(_scaled(vectors), ids, words, sha256_of(path))


def _by_tokenizer(path: Path) -> _Table:
    """A matrix in a safetensors file whose rows a tokenizer beside it numbers."""
    beside = path.with_name("tokenizer.json")
    if path == _wordllama(missing=True):
        beside = next((path.parents[1] / "tokenizers").glob("*.json"))
    tokenizers = optional("tokenizers", "text", f"reading {path}")
    if not beside.is_file():
        raise ValueError(f"no {beside.name} beside it")
    tokenizer = tokenizers.Tokenizer.from_file(str(beside))
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        matrices = [name for name in names if len(file.get_slice(name).get_shape()) == 2]
        if len(matrices) != 1:
            raise ValueError(f"{len(matrices)} matrices in it, expected one")
        vectors = file.get_tensor(matrices[0])
    if len(vectors) < tokenizer.get_vocab_size():
        raise ValueError(f"{len(vectors)} rows for {tokenizer.get_vocab_size()} ids of {beside}")

    def ids(text: str) -> tuple[list[int], list[str]]:
        lower = text.casefold()
        return [i + 1 for i in tokenizer.encode(lower, add_special_tokens=False).ids], []

    return _Table(_scaled(vectors), ids, (), sha256_of(path))


def _npz(path: Path) -> tuple[list[str], Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        words, vectors = arrays["words"].tolist(), torch.from_numpy(arrays["vectors"])
    if vectors.ndim != 2 or len(vectors) != len(words):
        raise ValueError(f"{len(words)} words and vectors of shape {tuple(vectors.shape)}")
    return words, vectors


def _text(path: Path) -> tuple[list[str], Tensor]:
    """Words and numbers in lines; a first line of two numbers, as fastText writes it, is none."""
    words: list[str] = []
    rows: list[np.ndarray] = []
    with path.open(encoding="utf-8", errors="strict") as file:
        for number, line in enumerate(file):
            word, *values = line.rstrip().split(" ")
            if number == 0 and len(values) == 1:
                continue
            if rows and len(values) != len(rows[0]):
                raise ValueError(f"line {number + 1} has {len(values)} numbers, not {len(rows[0])}")
            words.append(word)
            rows.append(np.array(values, dtype=np.float32))
    if not rows or not rows[0].size:
        raise ValueError("it holds no vectors")
    return words, torch.from_numpy(np.stack(rows))


def _scaled(vectors: Tensor) -> Float[Tensor, "v d"]:
    vectors = vectors.float()
    if not bool(vectors.isfinite().all()):
        raise ValueError("some numbers are not finite")
    return vectors / vectors.std().clamp_min(1e-12)


def _wordllama(missing: bool = False) -> Path:
    """The table of the package `wordllama`, which is not imported."""
    spec = find_spec(WORDLLAMA)
    if spec is None or spec.origin is None:
        if missing:
            return Path()
        raise ImportError(
            "the table wordllama needs the package: pip install 'openunite[wordllama]'"
        )
    return next((Path(spec.origin).parent / "weights").glob("*.safetensors"), Path())

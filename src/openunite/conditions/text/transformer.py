"""Text by a frozen encoder of `transformers`: CLIP's, T5's or any other, from a folder or the hub.

Its last hidden states go through one linear layer. The encoder is no part of a saved model: it is
loaded from the same place, which must give the same weights. What it says of a caption is kept in
a file of the cache folder, so that each caption is encoded once.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openunite.cache import cache_folder
from openunite.conditions.text.base import (
    Text,
    check_sizes,
    example_of,
    length_for,
    place_of,
    row_of,
    text_of,
)
from openunite.hub import hub_or_cache
from openunite.optional import optional


@dataclass(frozen=True)
class TransformerSettings:
    """`encoder` is a folder or a hub id whose weights have the `checksum`."""

    encoder: str
    checksum: str
    dim: int
    length: int
    example: str = ""

    def __post_init__(self) -> None:
        check_sizes(self.dim, self.length)


class TransformerText(Text):
    """The last hidden states of a frozen encoder, and one linear layer."""

    Settings = TransformerSettings
    settings: TransformerSettings
    source: ClassVar[str] = "encoder"

    def __init__(self, settings: TransformerSettings, width: int) -> None:
        super().__init__(settings, width, settings.dim, depth=0)
        self.uniforms = 0  # a caption without some of its words is another one to the encoder

    @classmethod
    def fit(cls, column: Sequence[Any], source: str = "") -> TransformerSettings:
        """The encoder, and the length of the captions in its tokens."""
        encoder, texts = _load(source), [text_of(value) for value in column]
        counts = [len(encoder.ids(text)) for text in texts]
        about = encoder.checksum, encoder.dim, length_for(counts), example_of(texts)
        return TransformerSettings(place_of(source), *about)

    @classmethod
    def parse(cls, value: Any, settings: TransformerSettings) -> list[float]:
        """A caption, or any other text."""
        return row_of(_checked(settings).ids(text_of(value)), settings.length)

    @classmethod
    def describe(cls, settings: TransformerSettings) -> str:
        """How long a text may be, with an example."""
        return f"up to {settings.length} tokens of {settings.encoder}, such as {settings.example!r}"

    def blur(
        self, values: Float[Tensor, "b f"], uniform: Float[Tensor, "b u"]
    ) -> Float[Tensor, "b f"]:
        return values

    @torch.compiler.disable
    def vectors(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
        return _checked(self.settings).encode(ids.cpu()).to(ids.device)


class _Encoder:
    """A frozen encoder with its tokenizer, and a file of what it said before."""

    def __init__(self, tokenizer: Any, network: torch.nn.Module, dim: int, cache: Path) -> None:
        self.tokenizer, self.network, self.dim = tokenizer, network, dim
        total = sha256()
        for name, value in sorted(network.state_dict().items()):
            total.update(name.encode())
            total.update(value.detach().float().contiguous().numpy().tobytes())
        self.checksum = total.hexdigest()
        cache.mkdir(parents=True, exist_ok=True)
        self.file = sqlite3.connect(cache / f"{self.checksum[:32]}.sqlite", timeout=60.0)
        self.file.execute("CREATE TABLE IF NOT EXISTS states (ids BLOB PRIMARY KEY, states BLOB)")

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, those that begin and end it too, counted from 1."""
        return [i + 1 for i in self.tokenizer(text, truncation=True)["input_ids"]]

    def encode(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
        """The last hidden states of rows of tokens, zeros where there are none."""
        rows, place = ids.unique(dim=0, return_inverse=True)
        found = [self._known(row) for row in rows]
        missing = [i for i, states in enumerate(found) if states is None]
        if missing:
            for i, states in zip(missing, self._run(rows[missing]), strict=True):
                found[i] = states
        return torch.stack([states for states in found if states is not None])[place]

    def _known(self, row: Int[Tensor, " l"]) -> Float[Tensor, "l v"] | None:
        query = "SELECT states FROM states WHERE ids = ?"
        found = self.file.execute(query, (_key(row),)).fetchone()
        if found is None:
            return None
        states = np.frombuffer(found[0], dtype=np.float16).astype(np.float32)
        return torch.from_numpy(states).reshape(len(row), self.dim)

    @torch.no_grad()
    def _run(self, rows: Int[Tensor, "b l"]) -> Float[Tensor, "b l v"]:
        seen: Bool[Tensor, "b l"] = rows > 0
        seen = torch.cat([torch.ones_like(seen[:, :1]), seen[:, 1:]], dim=1)
        given = {"input_ids": (rows - 1).clamp_min(0), "attention_mask": seen.long()}
        states = self.network(**given).last_hidden_state.float() * seen[:, :, None]
        half = states.half()  # what is kept is what is used, the first time too
        pairs = [(_key(row), s.numpy().tobytes()) for row, s in zip(rows, half, strict=True)]
        with self.file:
            self.file.executemany("INSERT OR IGNORE INTO states VALUES (?, ?)", pairs)
        return half.float()


def _key(row: Int[Tensor, " l"]) -> bytes:
    return row.numpy().astype("<i8").tobytes()


def _checked(settings: TransformerSettings) -> _Encoder:
    """The encoder of a model. ValueError if it is another one than in training."""
    encoder = _load(settings.encoder)
    if encoder.checksum != settings.checksum:
        raise ValueError(
            f"{settings.encoder} has other weights than the encoder that the model was trained "
            "with; give it the same ones"
        )
    return encoder


@lru_cache(maxsize=2)
def _load(source: str) -> _Encoder:
    """An encoder in evaluation mode. FileNotFoundError if there is none."""
    transformers = optional("transformers", "hf", f"the encoder {source}")
    try:
        with hub_or_cache():
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
            network = transformers.AutoModel.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{source} could not be loaded as an encoder of text ({type(error).__name__}); give a "
            "folder saved by transformers, or connect to the hub"
        ) from error
    if getattr(network, "text_model", None) is not None:  # CLIP has one for images, too
        network = network.text_model
    elif network.config.is_encoder_decoder:
        network = network.get_encoder()
    network = network.eval().float().requires_grad_(False)
    return _Encoder(tokenizer, network, network.config.hidden_size, cache_folder() / "text")

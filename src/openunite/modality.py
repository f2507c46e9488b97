"""The contract between the core and a modality.

A modality owns both ends of the model: an `Embedder` (data point -> observation tokens) and a
`Head` (decoder states -> data point), plus what training needs: a reconstruction loss and an
augmentation. The core never asks which modality it runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Bool
from torch import Tensor, nn

from openunite.batch import Batch
from openunite.catalog import get_spec
from openunite.flow.random import SlotRandom
from openunite.settings import build


class Embedder(nn.Module, ABC):
    """Data (B, ...) -> observation tokens (B, num_tokens, width), or fewer where padded less.

    `tied` says that token j describes the part of the data that register j stands for, as with
    atoms: both then get one rotary position.
    """

    num_tokens: int
    tied: bool = False


class Head(nn.Module, ABC):
    """Decoder states (B, num_tokens, width) -> data; `positions` (num_tokens, width) is fixed."""

    num_tokens: int
    positions: Tensor


class Modality(ABC):
    """What the core needs of a modality: both ends of the model, and what training needs.

    `settings` is an instance of `Settings`, a frozen dataclass whose fields are the plain values
    saved with the model; `Settings` checks them and raises ValueError.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def embedder(self, width: int) -> Embedder:
        """Observation tokens of a data point."""

    @abstractmethod
    def head(self, width: int) -> Head:
        """Data point from decoder states."""

    @abstractmethod
    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named scalars whose sum is L_rec of equation (5)."""

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        """Stored form -> model form, augmented with `random` (None: no augmentation).

        Here both forms are the same, and nothing is augmented.
        """
        return batch

    def draw_visible(self, batch: Batch, random: SlotRandom, draw: int) -> Bool[Tensor, "b n"]:
        """Which observation tokens of each sample a partial flow draw sees; `batch` is prepared.

        Random numbers come from `Stream.PARTIAL` at this draw. ValueError where nothing draws any.
        """
        raise ValueError(
            f"{type(self).__name__} cannot show a part of its data; "
            "set objective.partial_share to 0"
        )

    def compile(self) -> None:  # noqa: B027  most have nothing to compile
        """Have torch.compile fuse what the loss computes, where that is much."""

    def vgg_input(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of the images that the loss shows to VGG16; None without it."""
        return None


def get_modality(name: str, settings: Mapping[str, Any]) -> Modality:
    """The modality called `name` with plain settings; its module is imported on first use.

    ValueError for an unknown name, and for a setting that is unknown, missing or out of range.
    """
    kind: type[Modality] = get_spec(name).load("modality")
    return kind(build(kind.Settings, settings, what=f"{name} setting"))

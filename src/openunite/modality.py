"""The interface between the core and a modality.

A modality provides both ends of the model, an `Embedder` (data point -> observation tokens) and a
`Head` (decoder states -> data point), and for training a reconstruction loss and an augmentation.
The core never depends on which modality it runs.
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
    """Data (B, ...) -> observation tokens (B, num_tokens, width); fewer tokens for shorter batches.

    `tied` means that token j and register j describe the same part of the data, such as an atom;
    both then get the same rotary position. If they are also `added`, token j is not set beside
    register j but added to it, and the sequence is half as long.
    """

    num_tokens: int
    tied: bool = False
    added: bool = False

    @property
    def tokens_beside(self) -> int:
        """The tokens that stand beside the registers."""
        return 0 if self.added else self.num_tokens


class Head(nn.Module, ABC):
    """Decoder states (B, num_tokens, width) -> data; `positions` (num_tokens, width) are fixed.

    `num_places` is the number of places, such as pixels, where its convolutions run, if it has any.
    """

    num_tokens: int
    positions: Tensor
    num_places: int = 0


class Modality(ABC):
    """Everything the core needs from a modality: both ends of the model, loss and augmentation.

    `settings` is an instance of `Settings`, a frozen dataclass whose fields are the plain values
    saved with the model; `Settings` checks them and raises ValueError.
    """

    Settings: ClassVar[type]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def embedder(self, width: int) -> Embedder:
        """Build the module that turns data into observation tokens."""

    @abstractmethod
    def head(self, width: int) -> Head:
        """Build the module that turns decoder states into data."""

    @abstractmethod
    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; their sum is L_rec of equation (5)."""

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        """Convert a batch from the stored form to the model's, augmented with `random` if given.

        The default returns the batch unchanged.
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
        """Compile the loss with torch.compile, if that makes it faster."""

    def vgg_input(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of the images that the loss gives to VGG16; None without it."""
        return None


def get_modality(name: str, settings: Mapping[str, Any]) -> Modality:
    """The modality called `name` with the given settings; its module is imported on first use.

    Raises ValueError for an unknown name or for an unknown, missing or invalid setting.
    """
    kind: type[Modality] = get_spec(name).load("modality")
    return kind(build(kind.Settings, settings, what=f"{name} setting"))

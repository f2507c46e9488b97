"""The contract between the core and a modality, and a lazy registry of modalities.

A modality owns both ends of the model: an `Embedder` (data point -> observation tokens) and a
`Head` (decoder states -> data point), plus what training needs: a reconstruction loss and an
augmentation. The core never asks which modality it runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from openunite.batch import Batch
from openunite.flow.random import SlotRandom


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
    """What the core needs of a modality. `config` is the plain mapping saved with the model."""

    @abstractmethod
    def __init__(self, config: Mapping[str, Any]) -> None:
        """ValueError names a setting that is missing or out of range."""

    @abstractmethod
    def embedder(self, width: int) -> Embedder:
        """Observation tokens of a data point."""

    @abstractmethod
    def head(self, width: int) -> Head:
        """Data point from decoder states."""

    @abstractmethod
    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named scalars whose sum is L_rec of equation (5)."""

    @abstractmethod
    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        """Stored form -> model form, augmented with `random` (None: no augmentation)."""

    def compile(self) -> None:  # noqa: B027  most have nothing to compile
        """Have torch.compile fuse what the loss computes, where that is much."""


_HOMES = {
    "image": "openunite.modalities.image.tokens:ImageModality",
    "crystal": "openunite.modalities.crystal.tokens:CrystalModality",
    "joint": "openunite.modalities.joint.tokens:JointModality",
    "molecule": "openunite.modalities.molecule.tokens:MoleculeModality",
}


def get_modality(name: str, config: Mapping[str, Any]) -> Modality:
    """The modality called `name`; its module is imported on first use. ValueError if unknown."""
    if name not in _HOMES:
        raise ValueError(f"unknown modality {name!r}, expected one of {', '.join(_HOMES)}")
    module, attribute = _HOMES[name].split(":")
    return getattr(import_module(module), attribute)(config)

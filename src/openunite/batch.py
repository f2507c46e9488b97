"""What goes through the networks together: samples, and what is known of each of them.

Tokenizing infers latents from full evidence, generating infers them from none, and everything
between the two is a choice of what to show: `Evidence` is that choice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Change = Callable[[Tensor], Tensor]
CLASS = "class"  # the name of the condition that holds class labels


@dataclass(frozen=True, eq=False)
class Given:
    """Values of one condition (B, ...); `known` (B,) is False for samples that have none."""

    values: Tensor
    known: Bool[Tensor, " b"]

    @classmethod
    def of_all(cls, values: Tensor) -> "Given":
        """Values that are known of every sample."""
        return cls(values, torch.ones(len(values), dtype=torch.bool, device=values.device))

    def drop(self, dropped: Bool[Tensor, " b"]) -> "Given":
        """The same values, not known where `dropped` is True."""
        return Given(self.values, self.known & ~dropped)

    def each(self, change: Change) -> "Given":
        """Values and `known`, changed alike."""
        return Given(change(self.values), change(self.known))

    def rows(self, part: slice) -> "Given":
        """Some of the samples."""
        return self.each(lambda tensor: tensor[part])

    def to(self, device: torch.device | str) -> "Given":
        """A copy on a device."""
        return self.each(lambda tensor: tensor.to(device))


Conditions = Mapping[str, Given]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the network is shown of each sample beside its registers.

    `conditions` go by name; one that is not named is known of no sample. `observation` (B, ...) is
    the data point in model form, of which `visible` (B, N) tokens are seen, or all (None).
    `NOTHING`, which is `Evidence()`, stands for unconditional generation, and an observation alone
    for tokenizing.
    """

    conditions: Conditions = field(default_factory=dict)
    observation: Tensor | None = None
    visible: Bool[Tensor, "b n"] | None = None

    @classmethod
    def of_classes(cls, labels: Int[Tensor, " b"]) -> "Evidence":
        """Class labels, known of every sample."""
        return cls({CLASS: Given.of_all(labels)})

    def drop(self, dropped: Bool[Tensor, " b"]) -> "Evidence":
        """No condition is known of the samples where `dropped` is True."""
        kept = {name: given.drop(dropped) for name, given in self.conditions.items()}
        return replace(self, conditions=kept)

    @property
    def observed(self) -> bool:
        """Whether there is an observation."""
        return self.observation is not None

    def without(self, name: str) -> "Evidence":
        """The same evidence without one condition."""
        return replace(self, conditions={n: g for n, g in self.conditions.items() if n != name})

    def rows(self, part: slice) -> "Evidence":
        """The evidence of some of the samples."""
        return self.each(lambda tensor: tensor[part])

    def repeat(self, times: int) -> "Evidence":
        """The samples `times` times, one copy of the batch after the other."""
        return self.each(lambda tensor: tensor.repeat(times, *[1] * (tensor.ndim - 1)))

    def to(self, device: torch.device | str) -> "Evidence":
        """A copy on a device."""
        return self.each(lambda tensor: tensor.to(device))

    def each(self, change: Change) -> "Evidence":
        """All tensors, changed alike."""
        return Evidence(
            {name: given.each(change) for name, given in self.conditions.items()},
            None if self.observation is None else change(self.observation),
            None if self.visible is None else change(self.visible),
        )


NOTHING = Evidence()


@dataclass(frozen=True, eq=False)
class Batch:
    """B samples of the data.

    `data` (B, ...) is in stored or in model form; `index` (B,) holds the positions of the samples
    in the data. `mask` (B, K) marks the valid registers of samples that differ in size, and is None
    where all are alike. `conditions` are what the data say of the samples beside `data`.
    """

    data: Tensor
    index: Int[Tensor, " b"]
    mask: Bool[Tensor, "b k"] | None = None
    conditions: Conditions = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def valid(self) -> Bool[Tensor, "b k"]:
        """The mask of samples that differ in size. ValueError where there is none."""
        if self.mask is None:
            raise ValueError("expected a batch with a mask, as molecules and crystals have one")
        return self.mask

    def with_data(self, data: Tensor) -> "Batch":
        """The same samples with other data: augmented, or in another form."""
        return replace(self, data=data)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """A copy on a device."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """A copy in page-locked memory; PyTorch's loader calls this by its name."""
        return self.each(lambda tensor: tensor.pin_memory())

    def each(self, change: Change) -> "Batch":
        """All tensors, changed alike."""
        return Batch(
            change(self.data),
            change(self.index),
            None if self.mask is None else change(self.mask),
            {name: given.each(change) for name, given in self.conditions.items()},
        )

"""Sections of a protocol card: what a number depends on, field by field."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelSection:
    """Which model: `encoder` and `decoder` are checksums of their weights.

    `weights` is "ema", "raw" or, where nothing tells, "unknown". The model behind samples that are
    files is not known: `files` is a checksum of them.
    """

    source: str = field(compare=False)
    weights: str
    encoder: str
    decoder: str
    parameters: int | None
    class_names: tuple[str, ...] = ()
    files: str = ""

    def has_weights_of(self, other: "ModelSection") -> bool:
        """True if both are the same network with the same weights."""
        return (self.encoder, self.decoder) == (other.encoder, other.decoder)


@dataclass(frozen=True)
class ExtractorSection:
    """The network behind the features; `label` is what its Frechet distance may be called."""

    name: str
    label: str
    checksum: str
    dim: int


@dataclass(frozen=True)
class ReferenceSection:
    """The real data that samples are compared with; `checksum` is the fingerprint of the source."""

    data: str
    checksum: str
    split: str
    count: int
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    size: str = ""


@dataclass(frozen=True)
class SamplesSection:
    """Which samples: sample i has seed `first_seed` + i. `labels`: balanced, random or none.

    Samples that are files have no seeds.
    """

    count: int
    labels: str
    first_seed: int | None
    class_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class SamplingSection:
    """How samples are drawn; `options` are those of the solver.

    An adaptive solver has no `steps`, and its results depend on the batch.
    """

    solver: str
    steps: int | None
    time_shift: float
    options: Mapping[str, float]
    weights: str
    precision: str
    batch_size: int | None = None


@dataclass(frozen=True)
class GuidanceSection:
    """The scale of the guided samples, None where columns have scales of their own.

    `swept_on` is the split of a sweep over scales: it does not change the numbers, but may make
    them too good.
    """

    scale: float | None
    interval: tuple[float, ...]
    swept_on: str = field(default="nothing", compare=False)


@dataclass(frozen=True)
class PartSection:
    """A part of the data: which split, and how many of it."""

    split: str
    count: int


@dataclass(frozen=True)
class SoftwareSection:
    """Package versions, device, number of processes and batch size."""

    python: str
    packages: Mapping[str, str]
    device: str
    processes: int
    batch_size: int

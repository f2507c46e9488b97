"""The protocol card: metrics, and everything that decides them.

Two cards can be compared if no section of the protocol differs; `differences` names what does. The
model is not part of the protocol: comparing models is what cards are for.
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from openunite.evaluation.measured import Columns, Measured, text_table, vocabulary
from openunite.evaluation.sections import (
    ExtractorSection,
    GuidanceSection,
    ModelSection,
    PartSection,
    ReferenceSection,
    SamplesSection,
    SamplingSection,
    SoftwareSection,
)
from openunite.files import write_json
from openunite.settings import build

CARD_VERSION = 2
_PACKAGES = (
    "openunite", "torch", "numpy", "pillow", "diffusers", "safetensors", "torchdiffeq",
    "transformers", "datasets",
)  # fmt: skip
_CLASS_TOLERANCE = 0.02  # of class fractions, in total variation


@dataclass(frozen=True)
class ProtocolCard:
    """A model, the protocol it was evaluated by, and a column of metrics for each set.

    `kind` ("images", "molecules", "crystals") names the table of metrics. `sampling` is None for
    samples that are files.
    """

    kind: str
    model: ModelSection
    reference: ReferenceSection
    samples: SamplesSection
    sampling: SamplingSection | None
    guidance: GuidanceSection
    software: SoftwareSection
    metrics: Columns
    extractor: ExtractorSection | None = None
    reconstruction: PartSection | None = None
    real_images: PartSection | None = None
    metric_settings: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    card_version: int = CARD_VERSION

    def save(self, path: Path) -> None:
        """Write JSON atomically."""
        values = asdict(self)
        for column in values["metrics"].values():
            for name, found in column.items():
                column[name] = {key: part for key, part in found.items() if part is not None}
        write_json(path, values)

    def label(self, name: str) -> str:
        """What a table calls a metric: Frechet distances are named after the extractor."""
        distance = self.extractor.label if self.extractor else "FD"
        score = "inception score" if distance == "FID" else "score (as IS)"
        label = vocabulary(self.kind)[name].label
        return label.format(distance=distance, score=score).strip()

    def sections(self) -> dict[str, dict[str, str]]:
        """The model, the protocol and the software: names and values of each section."""
        found = {
            name: dict(_rows(getattr(self, name))) for name in ("model", *PROTOCOL, "software")
        }
        return {
            name: {key: _short(value) for key, value in rows.items() if value not in ("", None)}
            for name, rows in found.items()
            if rows
        }

    def table(self) -> str:
        """Metrics (a column for each set), then the protocol, then the warnings."""
        lines = text_table(self.metrics, self.label)
        for section, rows in self.sections().items():
            lines += ["", section]
            lines += [f"  {name:<28} {value}" for name, value in rows.items()]
        lines += [f"\nwarning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


PROTOCOL = (
    *("extractor", "reference", "samples", "sampling", "guidance", "reconstruction"),
    *("real_images", "metric_settings"),
)


def load_card(path: str | Path) -> ProtocolCard:
    """Read a card. Raise ValueError if the file is none."""
    try:
        values = json.loads(Path(path).read_text())
        if values.get("card_version") != CARD_VERSION:
            raise TypeError(f"card_version {values.get('card_version')}")
        card: ProtocolCard = build(ProtocolCard, values)
        columns = {
            name: {metric: Measured(**found) for metric, found in column.items()}
            for name, column in values["metrics"].items()
        }
        return replace(card, metrics=columns)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no protocol card of version {CARD_VERSION} ({error}); make it anew with "
            "`openunite evaluate` or `sweep`, or remove it"
        ) from error


def differences(
    one: ProtocolCard, other: ProtocolCard, sections: Sequence[str] = PROTOCOL
) -> list[str]:
    """'section.field: value -> value' for every setting that differs.

    Fields that are no settings (`compare=False`) are left out.
    """
    found = []
    for section in sections:
        before, after = (dict(_rows(getattr(card, section), True)) for card in (one, other))
        found += [
            f"{section}.{name}: {_short(before.get(name))} -> {_short(after.get(name))}"
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]
    return found


def software(device: str, processes: int, batch_size: int) -> SoftwareSection:
    """Versions of the packages that are installed, and where they run."""
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return SoftwareSection(platform.python_version(), packages, device, processes, batch_size)


def class_counts(labels: Sequence[int], num_classes: int) -> tuple[int, ...]:
    """Number of images in each class; empty without classes."""
    counts = [0] * num_classes
    for label in labels if num_classes else ():
        counts[label] += 1
    return tuple(counts)


def find_warnings(card: ProtocolCard) -> tuple[str, ...]:
    """What makes the numbers of a card misleading, in sentences."""
    samples, reference, extractor = card.samples, card.reference, card.extractor
    counts, found = samples.class_counts, []
    if counts and max(counts) - min(counts) > 1:
        found.append(
            f"samples are not balanced over the classes: {min(counts)} to {max(counts)} images each"
        )
    others, names = reference.class_names, card.model.class_names
    apart = _total_variation(counts, reference.class_counts)
    if names and others and others != names:
        found.append(
            f"the classes of the reference ({_short(others)}) are not the model's "
            f"({_short(names)}): class accuracy is left out"
        )
    elif apart > _CLASS_TOLERANCE:
        found.append(
            f"class fractions of samples and reference differ by {apart:.1%}, which adds to every "
            "distance"
        )
    for words, part in (("samples", samples), ("reference", reference)) if extractor else ():
        assert extractor is not None
        if part.count <= extractor.dim:
            found.append(
                f"{part.count} images in the {words} are too few for a covariance of "
                f"{extractor.dim} features: {extractor.label} is biased, compare it only between "
                "equal numbers of images"
            )
    if (card.guidance.swept_on, reference.split) == ("sweep", "train"):
        found.append("guidance was swept on images of this very split (train): use another")
    return tuple(found)


def _total_variation(first: Sequence[int], second: Sequence[int]) -> float:
    """Half the sum of |differences of fractions|; 0 without classes to compare."""
    if not first or len(first) != len(second):
        return 0.0
    pairs = zip(first, second, strict=True)
    return 0.5 * sum(abs(a / max(1, sum(first)) - b / max(1, sum(second))) for a, b in pairs)


def _rows(section: Any, settings_only: bool = False) -> Iterator[tuple[str, Any]]:
    """Names and values of a section; of mappings inside, each entry."""
    if section is None:
        return
    if isinstance(section, Mapping):
        yield from section.items()
        return
    for each in fields(section):
        value = getattr(section, each.name)
        if isinstance(value, Mapping):
            yield from value.items()
        elif each.compare or not settings_only:
            yield each.name, value


def _short(value: Any) -> str:
    """A value in a few characters: a list of names by its first, a list of counts by its range."""
    if isinstance(value, tuple) and len(value) > 4 and all(isinstance(v, str) for v in value):
        return f"{len(value)} names: {', '.join(value[:4])} ..."
    if isinstance(value, tuple) and len(value) > 4 and all(isinstance(v, int) for v in value):
        low, high = min(value), max(value)
        each = f"{low} each" if low == high else f"{low} to {high} each: {list(value[:12])}"
        return f"{len(value)} classes, {each}{'' if low == high or len(value) <= 12 else ' ...'}"
    return str(list(value) if isinstance(value, tuple) else value)

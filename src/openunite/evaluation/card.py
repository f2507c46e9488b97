"""The protocol card: everything that decides a number, beside the numbers.

Two numbers can be compared if nothing under `protocol` differs; `differences` names what does.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

CARD_VERSION = 1
_PACKAGES = (
    "openunite", "torch", "numpy", "pillow", "diffusers", "safetensors", "torchdiffeq",
    "transformers", "datasets",
)  # fmt: skip
_SHARE_TOLERANCE = 0.02  # of class shares, in total variation

Values = dict[str, Any]


@dataclass(frozen=True)
class ProtocolCard:
    """`model` was judged by `protocol`, with `software`; `metrics` has each set of images."""

    model: Values
    protocol: Values
    software: Values
    metrics: dict[str, dict[str, float]]
    warnings: list[str] = field(default_factory=list)
    card_version: int = CARD_VERSION

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(unfinished, path)

    def table(self) -> str:
        """Metrics (one column for each set of images), then the protocol, then the warnings."""
        columns = list(self.metrics)
        rows = list(dict.fromkeys(name for column in columns for name in self.metrics[column]))
        width = max((len(row) for row in rows), default=0)
        lines = [" " * width + "".join(f"  {column:>14}" for column in columns)]
        for row in rows:
            cells = (self.metrics[column].get(row) for column in columns)
            shown = ("" if cell is None else f"{cell:.5g}" for cell in cells)
            lines.append(f"{row:<{width}}" + "".join(f"  {cell:>14}" for cell in shown))
        for title, part in (
            ("model", self.model),
            ("protocol", self.protocol),
            ("software", self.software),
        ):
            lines += ["", title]
            lines += [f"  {name:<28} {_short(value)}" for name, value in _flat(part).items()]
        lines += [f"\nwarning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def load_card(path: str | Path) -> ProtocolCard:
    """Read a card. ValueError if the file is none."""
    try:
        values = json.loads(Path(path).read_text())
        if values.get("card_version") != CARD_VERSION:
            raise TypeError(f"card_version {values.get('card_version')}")
        card = ProtocolCard(**values)
        for name in ("model", "protocol", "software", "metrics"):
            if not isinstance(values[name], dict):
                raise TypeError(f"{name} is {values[name]!r}")
        for name, column in card.metrics.items():
            if not isinstance(column, dict):
                raise TypeError(f"metrics.{name} is {column!r}")
        return card
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no protocol card of version {CARD_VERSION} ({error}); give a card.json "
            "that `openunite evaluate` wrote"
        ) from error


def differences(one: ProtocolCard, other: ProtocolCard, part: str = "protocol") -> list[str]:
    """'field: value -> value' for all that differs in a part: protocol, model or software.

    What is no setting does not count: how many evaluations an adaptive solver took, and whether a
    guidance sweep was run.
    """
    before, after = _flat(getattr(one, part)), _flat(getattr(other, part))
    outcomes = {"guidance.swept_on"}
    if "adaptive" in (before.get("sampling.steps"), after.get("sampling.steps")):
        outcomes |= {"sampling.evaluations", "sampling.evaluations_guided"}
    names = [name for name in dict.fromkeys([*before, *after]) if name not in outcomes]
    return [
        f"{name}: {_short(before.get(name))} -> {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def software(device: str, processes: int) -> Values:
    """Versions of what computed, and where."""
    found: Values = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {"device": device, "processes": processes}


def class_counts(labels: Sequence[int], num_classes: int) -> list[int]:
    """How many images each class has; empty without classes."""
    counts = [0] * num_classes
    for label in labels if num_classes else ():
        counts[label] += 1
    return counts


def find_warnings(protocol: Mapping[str, Any], class_names: Sequence[str] = ()) -> list[str]:
    """What makes the numbers of a protocol misleading, in sentences.

    `class_names` are the model's. Where those of the reference differ, shares of classes are not
    compared.
    """
    samples, reference = protocol["samples"], protocol["reference"]
    width, name = protocol["extractor"]["dim"], protocol["extractor"]["label"]
    counts, found = samples["class_counts"], []
    if counts and max(counts) - min(counts) > 1:
        found.append(
            f"samples are not balanced over the classes: {min(counts)} to {max(counts)} images each"
        )
    others, names = reference.get("class_names", []), list(class_names)
    apart = _total_variation(counts, reference["class_counts"])
    if names and others and others != names:
        found.append(
            f"the classes of the reference ({_short(others)}) are not the model's "
            f"({_short(names)}): class accuracy is left out"
        )
    elif apart > _SHARE_TOLERANCE:
        found.append(
            f"class shares of samples and reference differ by {apart:.1%}; distances include that"
        )
    for words, count in (("samples", samples["images"]), ("reference", reference["images"])):
        if count <= width:
            found.append(
                f"{count} images in the {words} are too few for a covariance of {width} features: "
                f"{name} is biased, compare it at equal numbers of images only"
            )
    if (protocol["guidance"].get("swept_on"), reference["split"]) == ("sweep", "train"):
        found.append("guidance was swept on images of this very split (train): use another")
    return found


def _total_variation(first: Sequence[int], second: Sequence[int]) -> float:
    """Half of the sum of |differences of shares|; 0 where there are no classes to compare."""
    if not first or len(first) != len(second):
        return 0.0
    pairs = zip(first, second, strict=True)
    return 0.5 * sum(abs(a / max(1, sum(first)) - b / max(1, sum(second))) for a, b in pairs)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Values:
    flat: Values = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _short(value: Any) -> str:
    """A value in a few characters; long lists of counts as their range, of names as the first."""
    if isinstance(value, list) and len(value) > 4 and all(isinstance(v, str) for v in value):
        return f"{len(value)} names: {', '.join(value[:4])} ..."
    if isinstance(value, list) and len(value) > 4 and all(isinstance(v, int) for v in value):
        low, high = min(value), max(value)
        each = f"{low} each" if low == high else f"{low} to {high} each: {value[:12]}"
        return f"{len(value)} classes, {each}{'' if low == high or len(value) <= 12 else ' ...'}"
    return str(value)

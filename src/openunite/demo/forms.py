"""What a visitor can ask for, read from JSON and bounded, so that each job is short."""

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from openunite.pipelines.inputs import whole_number

MOST_SAMPLES = 36
MOST_STEPS = 200
MOST_GUIDANCE = 20.0
MOST_UPLOAD = 6_000_000  # bytes
HALVES = ("left", "right", "top", "bottom")
_MOST_SEED = 2**53 - 1  # the largest integer that JavaScript has exactly
_LONGEST = 200  # characters of a condition


@dataclass(frozen=True)
class Upload:
    """A file of the visitor; of its name only the suffix is used."""

    content: bytes
    suffix: str


@dataclass(frozen=True)
class Form:
    """A checked form. `label` and `other_label` are classes, None for no choice."""

    count: int
    seed: int
    other_seed: int
    steps: int
    guidance: float
    label: int | None = None
    other_label: int | None = None
    atoms: int | None = None
    half: str = HALVES[0]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    upload: Upload | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The changes of the pipeline's sampling."""
        return {"num_inference_steps": self.steps, "guidance_scale": self.guidance}


def read_form(values: Any, num_classes: int, conditions: Mapping[str, Any]) -> Form:
    """The form in a JSON value. ValueError, in one sentence, for what cannot be asked for."""
    if not isinstance(values, Mapping):
        raise ValueError("expected a form as a JSON object")
    return Form(
        count=whole_number("number of samples", values.get("count", 1), 1, MOST_SAMPLES),
        seed=whole_number("seed", values.get("seed", 0), 0, _MOST_SEED),
        other_seed=whole_number("second seed", values.get("other_seed", 1), 0, _MOST_SEED),
        steps=whole_number("steps", values.get("steps"), 1, MOST_STEPS),
        guidance=_number("guidance", values.get("guidance"), 0.0, MOST_GUIDANCE),
        label=_class(values.get("label"), num_classes),
        other_label=_class(values.get("other_label"), num_classes),
        atoms=_optional("number of atoms", values.get("atoms"), 1, 1000),
        half=_half(values.get("half", HALVES[0])),
        conditions=_conditions(values.get("conditions", {}), conditions),
        upload=_upload(values.get("upload")),
    )


def _number(name: str, value: Any, low: float, high: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}")
    return float(value)


def _optional(name: str, value: Any, low: int, high: int) -> int | None:
    return None if value is None else whole_number(name, value, low, high)


def _class(value: Any, num_classes: int) -> int | None:
    return None if value is None else whole_number("class", value, 0, num_classes - 1)


def _half(value: Any) -> str:
    if value not in HALVES:
        raise ValueError(f"the part that is kept must be one of {', '.join(HALVES)}")
    return str(value)


def _conditions(values: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """Text by name, as a user types it; the pipeline parses it. Empty text is not asked for."""
    if not isinstance(values, Mapping) or not set(values) <= set(known):
        raise ValueError("the form names a condition that this model does not have")
    found: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise ValueError(f"{name} must be text of at most {_LONGEST} characters")
        if value.strip(" ."):
            parts = tuple(part.strip() for part in value.split(","))
            several = known[name].get("kind") == "category" and len(parts) > 1
            found[name] = parts if several else value.strip()
    return found


def _upload(value: Any) -> Upload | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), str):
        raise ValueError("the uploaded file is incomplete; choose it again")
    try:
        content = base64.b64decode(value["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("the uploaded file is damaged; choose it again") from error
    if not content:
        raise ValueError("the uploaded file is empty; choose another one")
    if len(content) > MOST_UPLOAD:
        raise ValueError(
            f"the uploaded file has {len(content):,} bytes, at most {MOST_UPLOAD:,} are taken; "
            "choose a smaller one"
        )
    return Upload(content, PurePath(str(value.get("name", ""))[-_LONGEST:]).suffix.lower())

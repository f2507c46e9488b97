"""What the page can show of one model: the base of images and of molecules and crystals."""

import warnings
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from openunite.conditions.base import read
from openunite.demo.forms import MOST_SAMPLES, MOST_STEPS, Form, read_form
from openunite.flow.random import seeded_normal
from openunite.task import Task, task_of
from openunite.training.config import RunConfig

_MOST_FRAMES = 61
WALK = 9  # samples on the way from one to another


@dataclass(frozen=True)
class Shown:
    """A picture with its label, and for atoms the structure to turn in 3-D.

    `choice` are the class and the seed of a sample that the visitor can go on with.
    """

    picture: Image.Image
    label: str
    structure: dict[str, Any] | None = None
    choice: dict[str, int | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; the picture is a PNG in base64."""
        file = BytesIO()
        self.picture.save(file, "PNG")
        png = b64encode(file.getvalue()).decode()
        return {"png": png} | {k: v for k, v in vars(self).items() if k != "picture"}


@dataclass(frozen=True)
class Answer:
    """Pictures, how the page lays them out ("steps" has a slider), and a sentence about them."""

    shown: Sequence[Shown]
    words: str
    layout: Literal["grid", "row", "steps"] = "grid"


class Show(ABC):
    """One model and what visitors can do with it; `config` are its run's settings, if known."""

    accepts: ClassVar[tuple[str, ...]]  # suffixes of files that can be uploaded
    sized: ClassVar[bool] = False  # whether visitors choose a number of atoms

    def __init__(self, name: str, pipeline: Any, config: RunConfig | None = None) -> None:
        self.name, self.pipeline, self.config = name, pipeline, config

    @property
    def task(self) -> Task:
        """The task of the modality."""
        return task_of(self.pipeline)

    @property
    def num_classes(self) -> int:
        """The number of classes that can be asked for."""
        return int(self.pipeline.encoder.config.num_classes)

    @property
    def conditions(self) -> Mapping[str, Any]:
        """The conditions beside the class, by name, with their settings."""
        return self.pipeline.encoder.config.conditions or {}

    @property
    def actions(self) -> dict[str, Callable[[Form], Answer]]:
        """What can be done, by name."""
        return {
            "sample": self.sample,
            "steps": self.steps,
            "reconstruct": self.reconstruct,
            "walk": self.walk,
        }

    def describe(self) -> dict[str, Any]:
        """What the page needs to build its form."""
        sampling = self.pipeline.sampling
        names = self.pipeline.class_names
        return {
            "name": self.name,
            "things": self.task.things,
            "actions": list(self.actions),
            "classes": names or [str(i) for i in range(self.num_classes)],
            "conditions": [_field(name, plain) for name, plain in self.conditions.items()],
            "steps": min(sampling.num_inference_steps, MOST_STEPS),
            "guidance": sampling.guidance_scale,
            "sized": self.sized,
            "most_atoms": self.pipeline.latent_shape[0] if self.sized else None,
            "most_samples": MOST_SAMPLES,
            "accepts": list(self.accepts),
        }

    def answer(self, action: str, values: Any) -> dict[str, Any]:
        """Do what a form asks for; plain values for the page. ValueError for what cannot be."""
        if action not in self.actions:
            raise ValueError(f"{self.name} cannot do {action!r:.40}")
        form = read_form(values, self.num_classes, self.conditions)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = self.actions[action](form)
        notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        words = " ".join([found.words, *dict.fromkeys(notes)])
        shown = [each.to_json() for each in found.shown]
        return {"shown": shown, "words": words, "layout": found.layout}

    # ---- what both kinds do ---------------------------------------------------------------

    def labels(self, label: int | None, count: int) -> list[int] | None:
        """One class for each of `count` samples: the chosen one, or all in turn."""
        if not self.num_classes:
            return None
        return [i % self.num_classes if label is None else label for i in range(count)]

    def choices(self, form: Form, count: int) -> list[dict[str, int | None]]:
        """The class and the seed of each of `count` samples."""
        labels = self.labels(form.label, count)
        return [
            {"label": labels[i] if labels else None, "seed": form.seed + i} for i in range(count)
        ]

    def label_of(self, label: int | None) -> str:
        """The name of a class, "" for none."""
        names = self.pipeline.class_names
        return "" if label is None else names[label] if names else f"class {label}"

    def follow(self, draw: Callable[[Callable[..., None]], Any], seed: int) -> dict[str, Tensor]:
        """States (1, K, C) by label, from noise to the sample that `draw(callback)` makes.

        `seed` is the seed of the sample, whose noise is the first state. Of many, some are kept.
        """
        states: list[Tensor] = []
        draw(lambda _, t, z: states.append(z.clone()))
        registers, last = states[0].shape[1], len(states)
        noise = seeded_normal(torch.tensor([seed]), *self.pipeline.latent_shape)[:, :registers]
        states.insert(0, noise.to(states[0]))
        chosen = torch.linspace(0, last, min(last + 1, _MOST_FRAMES)).round().long().tolist()
        return {f"step {i} of {last}": states[i] for i in chosen}

    @abstractmethod
    def sample(self, form: Form) -> Answer:
        """New samples."""

    @abstractmethod
    def steps(self, form: Form) -> Answer:
        """One sample, from noise to the end."""

    @abstractmethod
    def reconstruct(self, form: Form) -> Answer:
        """The visitor's file, and what remains of it after encoding and decoding."""

    @abstractmethod
    def walk(self, form: Form) -> Answer:
        """Samples on the way from one to another."""


def _field(name: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs for the field of one condition."""
    kind, settings = read(name, plain)
    return {
        "name": name,
        "kind": plain["kind"],
        "help": kind.describe(settings),
        "names": list(getattr(settings, "names", ())),
        "several": getattr(settings, "most", 1) > 1,
        "low": getattr(settings, "low", None),
        "high": getattr(settings, "high", None),
    }

"""What a run needs of its modality beyond the model: data, what follows from them, judging."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from openunite.pipelines.base import UnitePipeline
from openunite.training.config import RunConfig
from openunite.training.loader import TrainingData


class Skip(Protocol):
    """Something in the data that cannot be used."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Data(Protocol):
    """An opened source."""

    @property
    def name(self) -> str: ...
    @property
    def train(self) -> TrainingData: ...
    @property
    def test(self) -> TrainingData: ...
    @property
    def skipped(self) -> tuple[Any, ...]: ...
    @property
    def fingerprint(self) -> str: ...


class Task(Protocol):
    """One modality's part of `openunite train`."""

    things: str  # what the data are, in words

    def open(self, config: RunConfig, *, progress: bool) -> Any:
        """The data of this run."""

    def settle(self, config: RunConfig, data: Any) -> RunConfig:
        """Settings that follow from the data. ValueError if they do not fit."""

    def record(self, data: Any) -> dict[str, Any]:
        """What data.json keeps of the data for later: plain values."""

    def preview(self, pipeline: Any, config: RunConfig, picture: Path) -> None:
        """A small picture of samples from fixed seeds: watch them improve over the run."""

    def finish(
        self, config: RunConfig, folder: Path, data: Any, pipeline: Any
    ) -> dict[str, float | int | str]:
        """Pictures into the run folder; flat metrics of held-out data and of samples."""

    def next_commands(self, folder: Path) -> list[str]:
        """What to try after training."""


_HOMES = {
    "image": ("openunite.modalities.image.task", "ImageTask"),
    "molecule": ("openunite.modalities.atoms.task", "MoleculeTask"),
    "crystal": ("openunite.modalities.atoms.task", "CrystalTask"),
    "joint": ("openunite.modalities.joint.task", "JointTask"),
}
_PIPELINES = {
    "image": ("openunite.modalities.image.pipeline", "ImagePipeline"),
    "molecule": ("openunite.modalities.molecule.pipeline", "MoleculePipeline"),
    "crystal": ("openunite.modalities.crystal.pipeline", "CrystalPipeline"),
    "joint": ("openunite.modalities.joint.pipeline", "JointPipeline"),
}


def get_task(modality: str) -> Task:
    """The task of a modality; its module is imported on first use."""
    module, name = _HOMES[modality]
    task: Task = getattr(import_module(module), name)()
    return task


def pipeline_class(modality: str) -> type[UnitePipeline]:
    """The pipeline of a modality."""
    module, name = _PIPELINES[modality]
    found: type[UnitePipeline] = getattr(import_module(module), name)
    return found


def pipeline_called(name: object) -> type[UnitePipeline] | None:
    """The pipeline whose class has this name, as model_index.json gives it."""
    for modality, (_, known) in _PIPELINES.items():
        if name == known:
            return pipeline_class(modality)
    return None

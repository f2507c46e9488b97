"""openunite: one network that tokenizes and generates, trained in one stage, from scratch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from openunite.modalities.crystal.pipeline import CrystalPipeline as CrystalPipeline
    from openunite.modalities.image.pipeline import ImagePipeline as ImagePipeline
    from openunite.modalities.joint.pipeline import JointPipeline as JointPipeline
    from openunite.modalities.molecule.pipeline import MoleculePipeline as MoleculePipeline
    from openunite.models.decoder import Decoder as Decoder
    from openunite.models.generative_encoder import GenerativeEncoder as GenerativeEncoder
    from openunite.objective import UniteObjective as UniteObjective
    from openunite.reporting.build import report as report
    from openunite.runs import Run as Run
    from openunite.training.config import RunConfig as RunConfig
    from openunite.verbs.analyze import analyze as analyze
    from openunite.verbs.encode import encode as encode
    from openunite.verbs.evaluate import evaluate as evaluate
    from openunite.verbs.reconstruct import reconstruct as reconstruct
    from openunite.verbs.sample import sample as sample
    from openunite.verbs.score_images import evaluate_images as evaluate_images
    from openunite.verbs.train import train as train

# Public names are imported on first use: importing torch and diffusers takes seconds.
_HOMES = {
    "GenerativeEncoder": "openunite.models.generative_encoder",
    "Decoder": "openunite.models.decoder",
    "UniteObjective": "openunite.objective",
    "ImagePipeline": "openunite.modalities.image.pipeline",
    "MoleculePipeline": "openunite.modalities.molecule.pipeline",
    "CrystalPipeline": "openunite.modalities.crystal.pipeline",
    "JointPipeline": "openunite.modalities.joint.pipeline",
    "Run": "openunite.runs",
    "RunConfig": "openunite.training.config",
    "train": "openunite.verbs.train",
    "sample": "openunite.verbs.sample",
    "reconstruct": "openunite.verbs.reconstruct",
    "encode": "openunite.verbs.encode",
    "evaluate": "openunite.verbs.evaluate",
    "evaluate_images": "openunite.verbs.score_images",
    "analyze": "openunite.verbs.analyze",
    "report": "openunite.reporting.build",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'openunite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Molecules and crystals in one model."""

from openunite.catalog import ModalitySpec

_HERE = "openunite.modalities.joint"
SPEC = ModalitySpec(
    name="joint",
    modality=f"{_HERE}.tokens:JointModality",
    pipeline=f"{_HERE}.pipeline:JointPipeline",
    task="openunite.modalities.joint.task:JointTask",
    recipes={name: f"openunite.modalities.atoms.recipes:{name}" for name in ("joint", "joint_s")},
)

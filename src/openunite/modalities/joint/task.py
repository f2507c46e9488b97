"""Runs on molecules and crystals together: each kind is a class, evaluated as in its own run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openunite.data.atoms.dataset import AtomData
from openunite.data.atoms.structure import Structure
from openunite.data.joint import JointData, open_joint
from openunite.drawing.structures import structure_grid
from openunite.modalities.atoms.task import (
    AtomTask,
    CrystalTask,
    Drawn,
    Metrics,
    MoleculeTask,
    draw,
)
from openunite.modalities.joint.pipeline import JointPipeline
from openunite.modalities.joint.tokens import CLASS_NAMES
from openunite.training.config import RunConfig


class JointTask:
    """`openunite train` for molecules and crystals."""

    things = "structures"

    def open(self, config: RunConfig, *, progress: bool) -> JointData:
        data = config.data
        return open_joint(
            data.source,
            max_atoms=data.max_atoms,  # the model's number is that of the larger kind
            max_e_above_hull=data.max_e_above_hull,
            least_share=data.least_share,
            holdout_share=data.holdout_share,
            holdout_max=data.holdout_max,
            max_bad_share=data.max_bad_share,
            progress=progress,
        )

    def settle(self, config: RunConfig, data: JointData) -> RunConfig:
        """Elements and the largest number of atoms, from the data; two classes."""
        for task in (MoleculeTask(), CrystalTask()):
            task.require()
        settings = {"elements": list(data.elements), "max_atoms": data.max_atoms}
        model = replace(config.model, num_registers=data.max_atoms)
        classes = len(CLASS_NAMES)
        return replace(config, modality_config=settings, model=model, num_classes=classes)

    def record(self, data: JointData) -> dict[str, Any]:
        histograms = [list(row) for row in data.size_histogram]
        return {"class_names": list(CLASS_NAMES), "size_histogram": histograms}

    def preview(self, pipeline: JointPipeline, config: RunConfig, picture: Path) -> None:
        labels = [name for name in CLASS_NAMES for _ in range(6)]
        samples = pipeline(class_labels=labels, seeds=range(12), num_inference_steps=25)
        structure_grid(samples, 6).save(picture)

    def finish(
        self, config: RunConfig, folder: Path, data: JointData, pipeline: JointPipeline
    ) -> Metrics:
        """A folder with pictures, structures and a report for each kind; its name leads metrics."""
        metrics: Metrics = {}
        parts: dict[str, tuple[AtomTask, AtomData]]
        parts = {"molecules": (MoleculeTask(), data.molecules)}
        parts |= {"crystals": (CrystalTask(), data.crystals)}
        for kind, (task, part) in parts.items():
            (folder / kind).mkdir(exist_ok=True)
            drawn = draw(folder / kind, pipeline, part.test, kind)
            right = sum((item.cell is not None) == (kind == "crystals") for item in drawn.samples)
            right_kind = as_kind(kind, drawn)
            found = task.finish_drawn(folder / kind, folder.name, right_kind, part, pipeline)
            metrics |= {f"{kind}_{name}": value for name, value in found.items()}
            metrics[f"{kind}_sample_kind_accuracy"] = right / len(drawn.samples)
        return metrics

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --classes molecules --output more.sdf",
            f"openunite sample {folder} --classes crystals --output more.cif",
            f"openunite reconstruct {folder} YOUR.sdf --output pairs.png",
        ]


def as_kind(kind: str, drawn: Drawn) -> Drawn:
    """What came out as the other kind counts as a bad structure of this one, not as none."""
    return Drawn(*([_as_kind(kind, item) for item in part] for part in drawn))


def _as_kind(kind: str, structure: Structure) -> Structure:
    if kind == "molecules":
        return structure if structure.cell is None else replace(structure, cell=None)
    return structure if structure.cell is not None else replace(structure, cell=_no_cell())


def _no_cell() -> np.ndarray:
    return np.full((3, 3), np.nan)

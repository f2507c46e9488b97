"""Runs on molecules and crystals together; each kind is a class and is evaluated on its own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openunite.data.atoms.dataset import AtomData
from openunite.data.atoms.files import files_in, read_foreign, suffix_of
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import read_xyz
from openunite.data.crystals.readers import KINDS as CRYSTALS
from openunite.data.crystals.readers import read_crystals
from openunite.data.holdout import Skipped
from openunite.data.joint import JointData, open_joint
from openunite.data.molecules.readers import KINDS as MOLECULES
from openunite.data.molecules.readers import read_molecules
from openunite.data.readers import Reader, reader_of
from openunite.drawing.structures import structure_grid
from openunite.evaluation.report import Report
from openunite.modalities.atoms.files import check_kinds, kind_of, records_of
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
from openunite.optional import optional
from openunite.training.config import RunConfig

_HOLDS = {".cif": ("crystals",), ".sdf": ("molecules",)}  # an .xyz holds both


class JointTask(AtomTask):
    """What commands need for models of molecules and crystals."""

    things = "structures"
    parts = CLASS_NAMES

    def open(self, config: RunConfig, source: Any, *, progress: bool) -> JointData:
        data = config.data
        return open_joint(
            source,
            max_atoms=data.max_atoms,  # the model's own limit is the larger of both kinds
            max_e_above_hull=data.max_e_above_hull,
            least_share=data.least_share,
            **data.limits,
            progress=progress,
        )

    def resolve(self, config: RunConfig, data: JointData) -> RunConfig:
        """Set elements and the largest number of atoms from the data; there are two classes."""
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
        """Write a folder for each kind with its report; metrics begin with the kind's name."""
        metrics: Metrics = {}
        parts: dict[str, tuple[AtomTask, AtomData]]
        parts = {"molecules": (MoleculeTask(), data.molecules)}
        parts |= {"crystals": (CrystalTask(), data.crystals)}
        for kind, (task, part) in parts.items():
            (folder / kind).mkdir(exist_ok=True)
            drawn = draw(folder / kind, pipeline, part.test, kind)
            right = sum(kind_of(item) == kind for item in drawn.samples)
            right_kind = as_kind(kind, drawn)
            found, _ = task.measure(folder / kind, folder.name, right_kind, part, pipeline)
            metrics |= {f"{kind}_{name}": value for name, value in found.items()}
            metrics[f"{kind}_sample_kind_accuracy"] = right / len(drawn.samples)
        return metrics

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --classes molecules --output more.sdf",
            f"openunite sample {folder} --classes crystals --output more.cif",
            f"openunite reconstruct {folder} YOUR.sdf --output pairs.png",
        ]

    # ---- a trained model ----------------------------------------------------------------------

    def classes(
        self, pipeline: JointPipeline, chosen: Sequence[str], count: int, suffix: str
    ) -> list[int | str]:
        """The kind of each sample: the chosen ones in turn, else those that the file can hold."""
        kinds = chosen or _HOLDS.get(suffix, CLASS_NAMES)
        check_kinds(kinds, suffix)
        return [kinds[i % len(kinds)] for i in range(count)]

    def records(self, source: str) -> Iterator[Structure | Skipped]:
        """The records of all files, one file at a time; an xyz file may hold both kinds."""
        path = Path(source)
        files = [path]
        if path.is_dir():
            files = files_in(path, (*CRYSTALS, *MOLECULES), *CLASS_NAMES)
        for file in files:
            suffix = suffix_of(file)
            if suffix in CRYSTALS and suffix in MOLECULES:
                yield from read_xyz(file)
            elif suffix not in (*CRYSTALS, *MOLECULES) and (reader := _reader_of(file)):
                yield from read_foreign(reader, file)
            else:
                read = read_crystals if suffix in CRYSTALS else read_molecules
                yield from records_of(read(file))

    def check_output(self, pipeline: JointPipeline, suffix: str) -> None:
        """Accept every kind of file; `classes` and `write_pairs` check the kinds of structures."""
        if suffix == ".sdf":
            optional("rdkit.Chem", "molecules", "writing an .sdf")

    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Report:
        raise NotImplementedError  # `finish` uses the task of each kind


def _reader_of(file: Path) -> Reader | None:
    """A reader of another package for molecules or crystals."""
    return next(filter(None, (reader_of(file, kind) for kind in CLASS_NAMES)), None)


def as_kind(kind: str, drawn: Drawn) -> Drawn:
    """Samples with those of the other kind turned into this one, so that they count as bad."""
    return Drawn(*([_as_kind(kind, item) for item in part] for part in drawn))


def _as_kind(kind: str, structure: Structure) -> Structure:
    if kind_of(structure) == kind:
        return structure
    return replace(structure, cell=None if kind == "molecules" else np.full((3, 3), np.nan))

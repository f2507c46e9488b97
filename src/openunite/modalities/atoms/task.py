"""Runs on molecules and crystals: data, previews, pictures, reports."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from openunite.data.atoms.dataset import AtomData, AtomDataset
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.write import write_structures
from openunite.data.crystals.dataset import open_crystals
from openunite.data.molecules.dataset import open_molecules
from openunite.drawing.structures import drawing_grid, pair_structures, structure_grid
from openunite.evaluation.crystals.report import crystal_report
from openunite.evaluation.measured import Columns
from openunite.evaluation.molecules.edm_rdkit import edm_smiles_set
from openunite.evaluation.molecules.fragments import fragment_keys
from openunite.evaluation.molecules.report import (
    molecule_report,
    reconstruction_report,
)
from openunite.modalities.atoms.card import run_card
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.optional import optional
from openunite.training.config import RunConfig

NUM_SAMPLES = 1000
_SHOWN, _COLUMNS = 24, 6
_AT_ONCE = 10_000  # training molecules that are looked through

Metrics = dict[str, float | int | str]


class Drawn(NamedTuple):
    """Samples, and reconstructions with their references."""

    samples: list[Structure]
    outputs: list[Structure]
    references: list[Structure]


class Evaluated(NamedTuple):
    """The metrics of a run: flat ones for metrics.json, and in columns for its card."""

    metrics: Metrics
    columns: Columns


class AtomTask:
    """What molecules and crystals have in common in `openunite train`."""

    things: str
    needs: tuple[str, ...]  # modules that `evaluate` imports

    @abstractmethod
    def open(self, config: RunConfig, *, progress: bool) -> AtomData:
        """The data of this run."""

    @abstractmethod
    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Evaluated:
        """Write structures and a report into the folder; return the metrics."""

    @abstractmethod
    def next_commands(self, folder: Path) -> list[str]:
        """What to try after training."""

    def settle(self, config: RunConfig, data: AtomData) -> RunConfig:
        """The largest number of atoms, from the data; elements too, unless they are set.

        The packages that evaluate the run are required here, before any step.
        """
        self.require()
        settings = {"elements": list(data.elements), **config.modality_config}
        settings["max_atoms"] = data.max_atoms
        model = replace(config.model, num_registers=data.max_atoms)
        return replace(config, modality_config=settings, model=model)

    def require(self) -> None:
        """Raise ImportError if a package that `evaluate` needs is missing."""
        for module in self.needs:
            optional(module, self.things, f"evaluating {self.things} after training")

    def record(self, data: AtomData) -> dict[str, Any]:
        return {"elements": list(data.elements), "size_histogram": list(data.size_histogram)}

    def preview(self, pipeline: AtomPipeline, config: RunConfig, picture: Path) -> None:
        samples = pipeline(12, seeds=range(12), num_inference_steps=25)
        structure_grid(samples, _COLUMNS).save(picture)

    def finish(
        self, config: RunConfig, folder: Path, data: AtomData, pipeline: AtomPipeline
    ) -> Metrics:
        drawn = draw(folder, pipeline, data.test)
        return self.finish_drawn(folder, folder.name, drawn, data, pipeline)

    def finish_drawn(
        self, folder: Path, source: str, drawn: Drawn, data: AtomData, pipeline: AtomPipeline
    ) -> Metrics:
        """Evaluate what was drawn and write card.json; `source` is the name of the run."""
        found = self.evaluate(folder, drawn, data)
        sizes = len(drawn.samples), len(drawn.references)
        run_card(self.things, pipeline, data, source, found.columns, sizes).save(
            folder / "card.json"
        )
        return found.metrics


def draw(folder: Path, pipeline: AtomPipeline, test: AtomDataset, kind: str | None = None) -> Drawn:
    """Samples (of class `kind`), reconstructions and references, with pictures that show them."""
    count = min(NUM_SAMPLES, len(test))
    # Evenly spaced: sources are often sorted by size.
    rows = np.linspace(0, len(test) - 1, count).round().astype(int)
    references = test.structures(rows.tolist())
    outputs = pipeline.reconstruct(references)
    labels = None if kind is None else [kind] * NUM_SAMPLES
    samples = pipeline(NUM_SAMPLES, class_labels=labels, seeds=range(NUM_SAMPLES))
    structure_grid(samples[:_SHOWN], _COLUMNS).save(folder / "samples.png")
    shown = slice(0, min(10, count))
    pair_structures(references[shown], outputs[shown]).save(folder / "reconstructions.png")
    return Drawn(samples, outputs, references)


class MoleculeTask(AtomTask):
    """`openunite train` for molecules."""

    things = "molecules"
    needs = ("rdkit.Chem",)

    def open(self, config: RunConfig, *, progress: bool) -> AtomData:
        settings, data = config.modality_config, config.data
        elements = settings.get("elements")
        if data.max_e_above_hull is not None:
            raise ValueError("data.max_e_above_hull is for crystals, not for molecules; remove it")
        return open_molecules(
            data.source,
            elements=None if elements is None else tuple(elements),
            max_atoms=data.max_atoms or settings.get("max_atoms"),
            holdout_share=data.holdout_share,
            holdout_max=data.holdout_max,
            max_bad_share=data.max_bad_share,
            progress=progress,
        )

    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Evaluated:
        samples, outputs, references = drawn
        drawing_grid(samples[:_SHOWN], _COLUMNS).save(folder / "samples_2d.png")
        write_structures(folder / "samples.xyz", samples)
        known = _smiles_like([*samples, *references], data.train)
        report = molecule_report(samples, references, train_smiles=known)
        pairs = reconstruction_report(outputs, references, adit=False)
        text = f"{report.table()}\n\n{pairs.table()}\n"
        print(f"\n{text}", end="")
        (folder / "report.txt").write_text(text)
        rebuilt = {"reconstructions": pairs.columns["reconstructions"]}
        return Evaluated({**pairs.metrics, **report.metrics}, report.columns | rebuilt)

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --num-images 64 --seed 7 --output more.sdf",
            f"openunite reconstruct {folder} YOUR.sdf --output pairs.png",
            "openunite train molecules --data YOUR.sdf --minutes 30",
        ]


class CrystalTask(AtomTask):
    """`openunite train` for crystals."""

    things = "crystals"
    needs = ("smact", "pymatgen.core")

    def open(self, config: RunConfig, *, progress: bool) -> AtomData:
        settings, data = config.modality_config, config.data
        elements = settings.get("elements")
        return open_crystals(
            data.source,
            elements=None if elements is None else tuple(elements),
            max_atoms=data.max_atoms or settings.get("max_atoms", 20),
            max_e_above_hull=data.max_e_above_hull,
            holdout_share=data.holdout_share,
            holdout_max=data.holdout_max,
            max_bad_share=data.max_bad_share,
            progress=progress,
        )

    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Evaluated:
        samples, outputs, references = drawn
        write_structures(folder / "samples.cif", samples)
        train = data.train.structures(range(len(data.train)))
        report = crystal_report(samples, references, train=train, reconstructions=outputs)
        print(f"\n{report.table()}")
        (folder / "report.txt").write_text(report.table() + "\n")
        return Evaluated(dict(report.metrics), report.columns)

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --num-images 64 --seed 7 --output more.cif",
            f"openunite reconstruct {folder} YOUR_CIFS/ --output pairs.png",
            "openunite train crystals --data YOUR_CIFS/ --minutes 30",
        ]


def _smiles_like(structures: Sequence[Structure], train: AtomDataset) -> frozenset[str]:
    """SMILES of the training molecules that the given ones, or their largest fragments, could be.

    There may be a hundred thousand others, for which SMILES would take minutes.
    """
    keys = set(fragment_keys(structures))
    found: list[Structure] = []
    for start in range(0, len(train), _AT_ONCE):
        part = train.structures(range(start, min(start + _AT_ONCE, len(train))))
        found += [item for item, key in zip(part, fragment_keys(part), strict=True) if key in keys]
    return edm_smiles_set(found)

"""Runs on molecules and crystals: data, previews, pictures, reports."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from openunite.data.atoms.dataset import AtomData, AtomDataset
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.write import write_structures
from openunite.data.crystals.dataset import open_crystals
from openunite.data.crystals.readers import read_crystals
from openunite.data.holdout import Skipped
from openunite.data.molecules.dataset import open_molecules
from openunite.data.molecules.readers import read_molecules
from openunite.drawing.structures import drawing_grid, pair_structures, structure_grid
from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.crystals.report import crystal_report
from openunite.evaluation.molecules.edm_rdkit import edm_smiles
from openunite.evaluation.molecules.fragments import fragment_keys
from openunite.evaluation.molecules.report import molecule_report
from openunite.evaluation.molecules.smiles import smiles_set
from openunite.evaluation.report import Report
from openunite.evaluation.sections import PartSection, ReferenceSection, SamplesSection
from openunite.modalities.atoms.columns import columns_of, formula_histogram
from openunite.modalities.atoms.files import AtomFiles, records_of
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.card import model_section, protocol_card
from openunite.optional import optional
from openunite.progress import say
from openunite.runs import Run
from openunite.task import DataColumns, Metrics, Options, sized
from openunite.training.config import RunConfig

NUM_SAMPLES = 1000
_SHOWN, _COLUMNS = 24, 6
_AT_ONCE = 10_000  # training molecules per chunk of the search


class Drawn(NamedTuple):
    """Samples, reconstructions with their references, and perhaps samples without a formula."""

    samples: list[Structure]
    outputs: list[Structure]
    references: list[Structure]
    free: Sequence[Structure] = ()


class AtomTask(AtomFiles):
    """What commands need for molecules and for crystals alike."""

    train_options = ("max_atoms",)
    sample_options = ("num_atoms",)
    needs: ClassVar[tuple[str, ...]]  # modules that `evaluate` imports

    @abstractmethod
    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Report:
        """Write the samples into the folder; return their metrics."""

    def configure(self, config: RunConfig, options: Options, source: Any) -> RunConfig:
        """Apply options; `max_atoms` limits the data, and the model's number follows from them."""
        config = sized(config, options.size)
        if options.max_atoms is None:
            return config
        settings = {k: v for k, v in config.modality_config.items() if k != "max_atoms"}
        data = replace(config.data, max_atoms=options.max_atoms)
        return replace(config, modality_config=settings, data=data)

    def describe(self, config: RunConfig) -> str:
        return f"{self.things} of up to {config.modality_config.get('max_atoms')} atoms"

    def resolve(self, config: RunConfig, data: Any) -> RunConfig:
        """Set the largest number of atoms from the `AtomData`, and the elements unless given.

        ImportError, before any training step, if a package for the evaluation is missing.
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

    def record(self, data: Any) -> dict[str, Any]:
        return {"elements": list(data.elements), "size_histogram": list(data.size_histogram)}

    def columns(self, data: Any) -> DataColumns:
        """What files say beside the atoms, and what is computed: see `columns.py`."""
        return columns_of(data.structures(range(len(data))))

    def preview(self, pipeline: AtomPipeline, config: RunConfig, picture: Path) -> None:
        samples = pipeline(12, seeds=range(12), num_inference_steps=25)
        structure_grid(samples, _COLUMNS).save(picture)

    def finish(self, config: RunConfig, folder: Path, data: Any, pipeline: AtomPipeline) -> Metrics:
        drawn = draw(folder, pipeline, data.test)
        return self.measure(folder, folder.name, drawn, data, pipeline)[0]

    def evaluate_model(
        self, command: Any, pipeline: AtomPipeline, data: Any, extractor: Any
    ) -> ProtocolCard:
        """Evaluate samples and reconstructions against held-out data; write and return the card."""
        run = Run.of(command.source)
        source = command.data or run.source(data)
        opened: Any = self.open(run.config, source, progress=False)
        folder = run.folder / "evaluation"
        folder.mkdir(exist_ok=True)
        drawn = draw(folder, pipeline, opened.test, None, command.num_samples, command.seed)
        _, card = self.measure(folder, run.folder.name, drawn, opened, pipeline)
        card.save(Path(command.output or run.folder / "card-evaluate.json"))
        return card

    def measure(
        self, folder: Path, source: str, drawn: Drawn, data: AtomData, pipeline: AtomPipeline
    ) -> tuple[Metrics, ProtocolCard]:
        """Evaluate what was drawn; write report.txt and card.json. `source` names the run."""
        found = self.evaluate(folder, drawn, data)
        say(f"\n{found.table()}")
        (folder / "report.txt").write_text(found.table() + "\n")
        samples, references = len(drawn.samples), len(drawn.references)
        drawn_label = "formula" if pipeline.draws_formulas else "none"
        labels = self.things if pipeline.encoder.config.num_classes else drawn_label
        card = protocol_card(
            self.things,
            pipeline,
            model_section(pipeline, source, "ema"),
            ReferenceSection(data.name, data.fingerprint, "test", references),
            SamplesSection(samples, labels, 0),
            found.columns,
            batch_size=samples,
        )
        card = replace(card, reconstruction=PartSection("test", references))
        card.save(folder / "card.json")
        return dict(found.metrics), card


def draw(
    folder: Path,
    pipeline: AtomPipeline,
    test: AtomDataset,
    kind: str | None = None,
    num_samples: int | None = None,
    first_seed: int = 0,
) -> Drawn:
    """Draw samples (of class `kind`), reconstruct held-out structures, and save pictures."""
    number = NUM_SAMPLES if num_samples is None else num_samples
    count = min(number, len(test))
    # Evenly spaced: sources are often sorted by size.
    rows = np.linspace(0, len(test) - 1, count).round().astype(int)
    references = test.structures(rows.tolist())
    outputs = pipeline.reconstruct(references)
    labels = None if kind is None else [kind] * number
    seeds = range(first_seed, first_seed + number)
    samples = pipeline(number, class_labels=labels, seeds=seeds)
    structure_grid(samples[:_SHOWN], _COLUMNS).save(folder / "samples.png")
    shown = slice(0, min(10, count))
    pair_structures(references[shown], outputs[shown]).save(folder / "reconstructions.png")
    blind = pipeline.draws_formulas and kind is None
    free = pipeline(number, seeds=seeds, conditions={}) if blind else ()
    return Drawn(samples, outputs, references, free)


class MoleculeTask(AtomTask):
    """What commands need for molecules."""

    things = "molecules"
    sources = "qm9, or SDF, xyz or .npz files"
    needs = ("rdkit.Chem",)

    def record(self, data: Any) -> dict[str, Any]:
        return {**super().record(data), "formula_histogram": formula_histogram(data.train)}

    def open(self, config: RunConfig, source: Any, *, progress: bool) -> AtomData:
        settings, data = config.modality_config, config.data
        elements = settings.get("elements")
        if data.max_e_above_hull is not None:
            raise ValueError("data.max_e_above_hull is for crystals, not for molecules; remove it")
        return open_molecules(
            source,
            elements=None if elements is None else tuple(elements),
            max_atoms=data.max_atoms or settings.get("max_atoms"),
            **data.limits,
            progress=progress,
        )

    def records(self, source: str) -> Iterator[Structure | Skipped]:
        return records_of(read_molecules(source))

    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Report:
        samples, outputs, references, free = drawn
        drawing_grid(samples[:_SHOWN], _COLUMNS).save(folder / "samples_2d.png")
        write_structures(folder / "samples.xyz", samples)
        known = _smiles_like([*samples, *references], data.train)
        return molecule_report(
            samples, references, train_smiles=known, reconstructions=outputs, free=free
        )

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --num-samples 64 --seed 7 --output more.sdf",
            f"openunite reconstruct {folder} YOUR.sdf --output pairs.png",
            "openunite train molecules --data YOUR.sdf --minutes 30",
        ]


class CrystalTask(AtomTask):
    """What commands need for crystals."""

    things = "crystals"
    sources = "CIF, CSV, xyz or .npz files"
    needs = ("smact", "pymatgen.core")

    def plan_for(self, config: RunConfig) -> RunConfig:
        """Set the elements from H to Pu, unless the settings name some."""
        settings = {"elements": list(range(1, 95)), **config.modality_config}
        return replace(config, modality_config=settings)

    def open(self, config: RunConfig, source: Any, *, progress: bool) -> AtomData:
        settings, data = config.modality_config, config.data
        elements = settings.get("elements")
        return open_crystals(
            source,
            elements=None if elements is None else tuple(elements),
            max_atoms=data.max_atoms or settings.get("max_atoms", 20),
            max_e_above_hull=data.max_e_above_hull,
            **data.limits,
            progress=progress,
        )

    def records(self, source: str) -> Iterator[Structure | Skipped]:
        return records_of(read_crystals(source))

    def evaluate(self, folder: Path, drawn: Drawn, data: AtomData) -> Report:
        samples, outputs, references, _ = drawn
        write_structures(folder / "samples.cif", samples)
        train = data.train.structures(range(len(data.train)))
        return crystal_report(samples, references, train=train, reconstructions=outputs)

    def next_commands(self, folder: Path) -> list[str]:
        return [
            f"openunite sample {folder} --num-samples 64 --seed 7 --output more.cif",
            f"openunite reconstruct {folder} YOUR_CIFS/ --output pairs.png",
            "openunite train crystals --data YOUR_CIFS/ --minutes 30",
        ]


def _smiles_like(structures: Sequence[Structure], train: AtomDataset) -> frozenset[str]:
    """SMILES of those training molecules whose `fragment_keys` occur among the given structures.

    No other can equal one of the given structures, and the SMILES of all would take minutes.
    """
    keys = set(fragment_keys(structures))
    found: list[Structure] = []
    for start in range(0, len(train), _AT_ONCE):
        part = train.structures(range(start, min(start + _AT_ONCE, len(train))))
        found += [item for item, key in zip(part, fragment_keys(part), strict=True) if key in keys]
    return smiles_set(found, edm_smiles)

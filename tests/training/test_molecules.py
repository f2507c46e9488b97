"""The trainer on data of varying size: resume, accumulation, and that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.test_resume import final_tensors, rows_without_clock, stop
from tests.training.tiny import tiny_config

from openunite.evaluation.molecules.reconstruction import kabsch_rmsd, type_accuracy
from openunite.modalities.atoms.arrays import pack
from openunite.modalities.atoms.structure import Structure
from openunite.modalities.molecule.data import molecule_dataset
from openunite.pipelines.molecule import MoleculePipeline
from openunite.training.build import build_models, build_objective
from openunite.training.trainer import Trainer

ELEMENTS = (1, 6, 8)


def molecules(count: int) -> list[Structure]:
    """Chains of 3 to 7 atoms, about a bond apart."""
    generator = np.random.default_rng(0)
    found = []
    for i in range(count):
        steps = generator.normal(size=(3 + i % 5, 3))
        places = np.cumsum(1.3 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
        found.append(Structure(generator.choice(ELEMENTS, len(places)), places))
    return found


def trainer(folder: Path, count: int = 60, preview: object = None, **changes: object) -> Trainer:
    settings = {"elements": list(ELEMENTS), "max_atoms": 7, "rotate": changes.pop("rotate", True)}
    config = tiny_config(
        modality="molecule", modality_config=settings, num_classes=0, steps=12, **changes
    )
    config = replace(config, model=replace(config.model, num_registers=7))
    folder.mkdir(parents=True, exist_ok=True)
    data = molecule_dataset(pack(molecules(count)), np.arange(count), ELEMENTS)
    objective = build_objective(config, *build_models(config))
    return Trainer(objective, data, config, folder, preview)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(tmp_path: Path, workers: int) -> None:
    changes = {"data__workers": workers, "micro_batch_size": 8}
    trainer(tmp_path / "whole", **changes).fit()
    first = trainer(tmp_path / "parts", preview=stop, preview_every=5, **changes).fit()
    assert (first.steps_done, first.finished) == (5, False)
    trainer(tmp_path / "parts", **changes).fit()
    assert rows_without_clock(tmp_path / "whole") == rows_without_clock(tmp_path / "parts")
    one, two = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts")
    assert [n for n in one if not torch.equal(one[n], two[n])] == []


def test_accumulation_changes_nothing_though_it_pads_differently(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").fit()
    trainer(tmp_path / "parts", micro_batch_size=4).fit()
    one, two = (rows_without_clock(tmp_path / name) for name in ("whole", "parts"))
    for first, second in zip(one, two, strict=True):
        assert first == pytest.approx(second, rel=2e-3, abs=1e-5)


def test_eight_molecules_are_learned_by_heart(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        count=8,
        rotate=False,
        batch_size=8,
        objective__flow_draws=1,
        objective__recon_noise_start=0.95,
        model__width=64,
        model__decoder_width=64,
        model__latent_channels=12,
    )
    run.config = replace(run.config, steps=400)
    run.fit()
    pipeline = MoleculePipeline(run.ema.model.encoder, run.ema.model.decoder)
    known = molecules(8)
    outputs = pipeline.reconstruct(known)
    assert type_accuracy(outputs, known).atoms.value == 1.0
    assert float(kabsch_rmsd(outputs, known).mean()) < 0.05

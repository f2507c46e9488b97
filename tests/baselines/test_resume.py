"""Stopping and starting again changes nothing for baselines either, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import perturb
from tests.training.test_resume import final_tensors, rows_without_clock, stop
from tests.training.tiny import tiny_trainer

from openunite.training.trainer import Trainer

CASES: dict[str, dict[str, Any]] = {
    "no stop-gradient": {"objective__stop_gradient": False},
    "separate": {"model__tokenizer": "separate"},
    "autoencoder": {"model__tokenizer": "separate", "objective__stage": "autoencoder"},
    "denoiser": {
        "model__tokenizer": "separate",
        "init_from": "elsewhere",
        "objective__stage": "denoiser",
    },
}


def trainer_of(folder: Path, preview: Any = None, **changes: Any) -> Trainer:
    """With a tokenizer whose latents are not all 0, as they are at initialization."""
    trainer = tiny_trainer(folder, preview, **changes)
    if changes.get("objective__stage") == "denoiser":
        perturb(trainer.objective.encoder.tokenizer)
    return trainer


@pytest.mark.parametrize("name", CASES)
def test_seven_plus_eight_is_fifteen(tmp_path: Path, name: str) -> None:
    changes = {"steps": 15, **CASES[name]}
    trainer_of(tmp_path / "whole", **changes).fit()
    first = trainer_of(tmp_path / "parts", stop, preview_every=7, **changes).fit()
    assert (first.steps_done, first.finished) == (7, False)
    assert trainer_of(tmp_path / "parts", **changes).fit().finished
    assert sum(row["loss"] for row in rows_without_clock(tmp_path / "whole")) > 0.1
    assert rows_without_clock(tmp_path / "whole") == rows_without_clock(tmp_path / "parts")
    one, two = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert [n for n in one if not torch.equal(one[n], two[n])] == []


def test_the_second_stage_leaves_tokenizer_and_decoder_alone(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, steps=4, **CASES["denoiser"])
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.fit()
    moved = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not [n for n in moved if n.startswith(("decoder.", "encoder.tokenizer."))]

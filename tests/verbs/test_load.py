"""The model behind a name: unfinished runs, finished ones, and what is neither."""

import json
from pathlib import Path

import pytest
import torch
from tests.training.tiny import tiny_config, tiny_trainer

from openunite.runs import load_pipeline
from openunite.training.config import save_config


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run with two checkpoints and no pipeline."""
    trainer = tiny_trainer(tmp_path, steps=4, checkpoint_every=2)
    trainer.fit()
    save_config(tiny_config(steps=4, checkpoint_every=2), tmp_path / "config.yaml")
    names = [f"class {i}" for i in range(10)]
    (tmp_path / "data.json").write_text(json.dumps({"class_names": names}))
    return tmp_path


def damage(checkpoint: Path) -> None:
    weights = checkpoint / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def test_an_unfinished_run_gives_its_ema_and_its_class_names(unfinished: Path) -> None:
    pipeline = load_pipeline(str(unfinished))
    trainer = tiny_trainer(unfinished, steps=4, checkpoint_every=2)
    trainer.fit()  # nothing left to do: it loads the same checkpoint
    expected = trainer.ema.model["encoder"].state_dict()
    found = pipeline.encoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert pipeline.config.class_names[3] == "class 3"
    assert len(pipeline(["class 3"], num_inference_steps=1)) == 1


def test_a_damaged_checkpoint_is_passed_over_and_two_are_named(unfinished: Path) -> None:
    newest = unfinished / "checkpoints" / "step-00000004"
    damage(newest)
    assert load_pipeline(str(unfinished)) is not None
    damage(unfinished / "checkpoints" / "step-00000002")
    with pytest.raises(FileNotFoundError, match="no sound checkpoint") as caught:
        load_pipeline(str(unfinished))
    assert str(newest / "ema.safetensors") in str(caught.value)


def test_settings_without_checkpoints_are_one_sentence(tmp_path: Path) -> None:
    save_config(tiny_config(), tmp_path / "config.yaml")
    with pytest.raises(FileNotFoundError, match="no sound checkpoint yet; let it train"):
        load_pipeline(str(tmp_path))

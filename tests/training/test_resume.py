"""Stopping anywhere and starting again changes nothing, bit for bit."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from tests.training.tiny import tiny_config, tiny_trainer
from torch import nn

from openunite.progress import showing
from openunite.training.checkpoint import list_checkpoints, load_checkpoint


def rows_without_clock(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in rows]


def final_tensors(folder: Path) -> dict[str, torch.Tensor]:
    groups = load_checkpoint(list_checkpoints(folder / "checkpoints")[0]).tensors
    return {f"{g}/{name}": t for g, tensors in groups.items() for name, t in tensors.items()}


def stop(model: nn.Module, step: int) -> None:
    """A preview that sends this process the signal a cluster sends."""
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("micro_batch_size", [16, 8])
def test_seventeen_plus_twenty_three_is_forty(
    tmp_path: Path, workers: int, micro_batch_size: int
) -> None:
    changes = {"data__workers": workers, "micro_batch_size": micro_batch_size}
    whole = tiny_trainer(tmp_path / "whole", **changes).fit()
    first = tiny_trainer(tmp_path / "parts", stop, preview_every=17, **changes).fit()
    assert (first.steps_done, first.finished) == (17, False)
    second = tiny_trainer(tmp_path / "parts", **changes).fit()
    assert whole.finished
    assert second.finished
    assert rows_without_clock(tmp_path / "whole") == rows_without_clock(tmp_path / "parts")
    one, two = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert [n for n in one if not torch.equal(one[n], two[n])] == []


def test_a_convolutional_head_is_trained_and_resumed(tmp_path: Path) -> None:
    images = tiny_config().modality_config | {"head": "convolutional"}
    whole = tiny_trainer(tmp_path / "whole", modality_config=images, steps=12)
    whole.fit()
    assert whole.model["decoder"].head.refinement.pixel_output.weight.abs().max() > 0.0
    tiny_trainer(tmp_path / "parts", stop, modality_config=images, steps=12, preview_every=5).fit()
    tiny_trainer(tmp_path / "parts", modality_config=images, steps=12).fit()
    one, two = final_tensors(tmp_path / "whole"), final_tensors(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_rows_after_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    """A kill between two checkpoints leaves rows that the resumed run computes anew."""
    tiny_trainer(tmp_path, steps=10).fit()
    log = tmp_path / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 11, "loss": 1.0}\n{"step": 12, "lo')
    tiny_trainer(tmp_path, steps=12).fit()
    assert [row["step"] for row in rows_without_clock(tmp_path)] == list(range(1, 13))


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny_trainer(tmp_path, checkpoint_every=20).fit()
    newest = list_checkpoints(tmp_path / "checkpoints")[0] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])
    trainer = tiny_trainer(tmp_path, checkpoint_every=20)
    with showing():
        trainer.fit()
    assert "damaged" in capsys.readouterr().out
    assert trainer.step == 40
    assert [row["step"] for row in rows_without_clock(tmp_path)] == list(range(1, 41))


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, steps=5).fit()
    before = final_tensors(tmp_path)
    assert tiny_trainer(tmp_path, steps=5).fit().finished
    after = final_tensors(tmp_path)
    assert all(torch.equal(before[name], after[name]) for name in before)

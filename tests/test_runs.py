"""`Run`: what a run folder says of itself, from before its first step to after its end."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.training.tiny import tiny_config, tiny_trainer

from openunite.pipelines.base import UnitePipeline
from openunite.runs import Run, load_pipeline, weights_checksums
from openunite.training.config import save_config

SETTINGS = {"steps": 4, "checkpoint_every": 2}


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run with its two checkpoints and no end."""
    folder = tmp_path / "run"
    tiny_trainer(folder, **SETTINGS).fit()
    save_config(tiny_config(**SETTINGS), folder / "config.yaml")
    record = {"fingerprint": "abc", "class_names": [f"class {i}" for i in range(10)]}
    (folder / "data.json").write_text(json.dumps(record))
    return folder


def finish(folder: Path) -> None:
    """What `train` leaves last."""
    run = Run(folder)
    run.from_checkpoint().save_pretrained(folder / "pipeline")
    Image.new("L", (4, 4)).save(folder / "samples.png")
    (folder / "metrics.json").write_text('{"fd": 1.5, "note": "<b>"}')


def test_a_folder_with_settings_alone_is_new(tmp_path: Path) -> None:
    save_config(tiny_config(), tmp_path / "config.yaml")
    run = Run(tmp_path)
    assert (run.state, run.is_finished) == ("new", False)
    assert run.config == tiny_config()
    assert (run.record, run.metrics, run.log, run.checkpoints, run.pictures) == ({}, {}, [], [], [])
    with pytest.raises(FileNotFoundError, match="no sound checkpoint yet; let it train"):
        run.pipeline  # noqa: B018


def test_a_run_with_a_checkpoint_is_stopped(stopped: Path) -> None:
    run = Run(stopped)
    assert run.state == "stopped"
    assert run.record["class_names"][3] == "class 3"
    assert [row["step"] for row in run.log] == [1, 2, 3, 4]
    assert all(row["loss"] > 0 for row in run.log)
    assert [path.name for path in run.checkpoints] == ["step-00000004", "step-00000002"]
    assert run.metrics == {}


def test_a_run_whose_training_collapsed_says_so(stopped: Path) -> None:
    (stopped / "collapsed.json").write_text('{"message": "the latents are all alike"}')
    assert Run(stopped).state == "collapsed"
    finish(stopped)
    assert Run(stopped).state == "finished"  # it went on, and came to its end


def test_a_finished_run_has_metrics_of_its_last_step(stopped: Path) -> None:
    finish(stopped)
    run = Run(stopped)
    assert (run.state, run.is_finished) == ("finished", True)
    assert run.metrics == {"fd": 1.5, "note": "<b>"}
    assert [path.name for path in run.pictures] == ["samples.png"]
    save_config(tiny_config(steps=6, checkpoint_every=2), stopped / "config.yaml")
    assert Run(stopped).state == "stopped"  # two more steps were asked for


def test_metrics_older_than_the_last_checkpoint_are_no_end(stopped: Path) -> None:
    finish(stopped)
    os.utime(stopped / "metrics.json", (0, 0))
    assert Run(stopped).state == "stopped"


def test_the_pipeline_of_a_run_is_that_of_its_end_or_of_its_newest_checkpoint(
    stopped: Path,
) -> None:
    run = Run(stopped)
    assert isinstance(run.pipeline, UnitePipeline)
    assert run.pipeline is run.pipeline
    assert run.pipeline.config.class_names[3] == "class 3"
    ema, raw = (weights_checksums(run.from_checkpoint(kind)) for kind in ("ema", "model"))
    assert weights_checksums(run.pipeline) == ema != raw
    assert weights_checksums(load_pipeline(stopped, "raw")) == raw
    finish(stopped)
    saved = Run(stopped).from_checkpoint()
    with torch.no_grad():
        next(iter(saved.decoder.parameters())).add_(1.0)
    saved.save_pretrained(stopped / "pipeline")
    assert weights_checksums(Run(stopped).pipeline) == weights_checksums(saved) != ema


def test_a_run_is_found_in_its_folder_and_around_its_pipeline(stopped: Path) -> None:
    finish(stopped)
    for source in (stopped, str(stopped), stopped / "pipeline"):
        assert Run.of(source) == Run(stopped)
        assert Run.around(source) == Run(stopped)
    assert Run.around(stopped / "pipeline" / "encoder") is None
    assert Run.around(stopped.parent / "nowhere") is None
    with pytest.raises(FileNotFoundError, match=r"is no run: it has no config\.yaml"):
        Run.of(stopped.parent / "nowhere")


def test_settings_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("steps: [")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        Run(tmp_path).config  # noqa: B018


def test_a_notebook_shows_the_state_the_pictures_and_escaped_metrics(stopped: Path) -> None:
    finish(stopped)
    html = Run(stopped)._repr_html_()
    assert ": finished</p>" in html
    assert "<td>&lt;b&gt;</td>" in html
    assert "<td><b></td>" not in html
    assert html.count("data:image/png;base64,") == 1


def test_raw_weights_of_what_is_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="raw weights are in a run's checkpoints"):
        load_pipeline(tmp_path, "raw")

"""A run folder that somebody else has, or that has lost something."""

import json
import os
import signal
from pathlib import Path

import pytest
from tests.training.tiny import tiny_config

from openunite.cli import main
from openunite.modalities.image.task import ImageTask
from openunite.training.config import save_config
from openunite.training.lock import run_lock
from openunite.training.trainer import Trainer


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run that is stopped by a closing terminal in its third step; the same command goes on."""
    save_config(tiny_config(steps=6, data__source="fashion-mnist-mini"), tmp_path / "settings.yaml")
    arguments = ["train", "--config", str(tmp_path / "settings.yaml")]
    arguments += ["--output", str(tmp_path / "run")]
    advance = Trainer.advance

    def interrupted(trainer: Trainer, batches: object) -> object:
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGHUP)
        return advance(trainer, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageTask, "finish", lambda *_: {})  # a thousand samples, after the end
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "advance", interrupted)
        main(arguments)
    return arguments


def refused(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """The sentence of a command that exits with 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    sentence = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence.startswith("openunite train: ")
    return sentence


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_folder_that_is_being_trained_in_is_left_alone(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture
) -> None:
    before = contents(tmp_path / "run")
    with run_lock(tmp_path / "run"):
        sentence = refused(command, capsys)
    assert f"{tmp_path / 'run'} is being trained by process {os.getpid()} on " in sentence
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("text", [None, '{"fingerprint": ', "{}", "[]"])
def test_without_data_json_the_sentence_has_the_remedy(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture, text: str | None
) -> None:
    record = tmp_path / "run" / "data.json"
    whole = json.loads(record.read_text())
    record.unlink() if text is None else record.write_text(text)
    sentence = refused(command, capsys)
    assert f"{record} is missing or damaged" in sentence
    (tmp_path / "run" / "config.yaml").unlink()  # the remedy
    main(command)
    assert json.loads(record.read_text()) == whole
    assert "resuming" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["steps"] == 6


def test_a_checkpoint_of_a_newer_version_stops_the_run_and_stays(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture
) -> None:
    manifest = tmp_path / "run" / "checkpoints" / "step-00000003" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    before = contents(tmp_path / "run")
    assert "step-00000003 has format 2" in refused(command, capsys)
    assert contents(tmp_path / "run") == before

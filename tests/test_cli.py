"""How commands end: by a mistake, a closed pipe, Ctrl-C or SIGTERM."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import make_models

from openunite import ImagePipeline, __version__, cli

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
OPENUNITE = [sys.executable, "-m", "openunite.cli"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    models = make_models()
    folder = tmp_path_factory.mktemp("pipeline")
    ImagePipeline(models.encoder, models.decoder).save_pretrained(folder)
    return str(folder)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.parse(["--version"])
    assert capsys.readouterr().out == f"openunite {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("trian", "did you mean 'train'?"), ("xyz", "openunite --help lists the commands")],
)
def test_an_unknown_command_names_the_nearest(
    capsys: pytest.CaptureFixture[str], typed: str, answer: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.parse([typed, "fashion"])
    assert capsys.readouterr().err == f"openunite: there is no command {typed!r}; {answer}\n"


def test_openunite_alone_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.parse([])
    assert "  train " in capsys.readouterr().out


def ending(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command in which this happens."""
    verbs = cli.import_module("openunite.verbs")

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(verbs, "run", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", "runs/a"])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "openunite info: stopped by Ctrl-C\n"),
        (cli.Terminated(), 143, "openunite info: ended by SIGTERM\n"),
        (ValueError("a, expected b"), 2, "openunite info: a, expected b\n"),
        (FileNotFoundError("a\x1b is missing"), 2, "openunite info: a\\x1b is missing\n"),
    ],
)
def test_each_end_has_its_line_and_its_status(
    error: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ending(error, monkeypatch) == status
    assert capsys.readouterr().err == message


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.import_module("openunite.verbs"), "run", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["info", "runs/a"])


@posix
def test_sigterm_unwinds_a_command_and_is_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleaned: list[bool] = []

    def run(_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(5)
        finally:
            cleaned.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli.import_module("openunite.verbs"), "run", run)
    with pytest.raises(SystemExit) as stop:
        cli.main(["info", "runs/a"])
    assert (stop.value.code, cleaned) == (143, [True])
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "openunite info: ended by SIGTERM\n"


@posix
@pytest.mark.usefixtures("ctrl_c")
def test_a_long_command_ends_at_once_and_goes_on_later(saved: str, tmp_path: Path) -> None:
    path, parts = tmp_path / "many.npz", tmp_path / ".many.npz.parts"
    command = ["sample", saved, "--batch-size", "2", "--output", str(path), "--num-samples"]
    process = subprocess.Popen([*OPENUNITE, *command, "100000"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(parts.glob("*/000002*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 10.0
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "openunite sample: stopped by Ctrl-C"
    assert len(list(parts.glob("*/*.safetensors"))) >= 3
    assert not path.exists()
    cli.main([*command, "6"])
    assert path.is_file()
    assert not parts.exists()


@posix
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["evaluate", "molecules", "--help"]],
    ids=" ".join,
)
def test_a_reader_who_has_seen_enough_ends_a_command_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        found = subprocess.run(
            [*OPENUNITE, *arguments], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert found.stderr == b""


@posix
def test_closed_pipes_for_both_streams_are_no_defect(saved: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        found = subprocess.run(
            [*OPENUNITE, "info", saved], stdout=closed, stderr=closed, check=False, timeout=120
        )
    assert found.returncode == 1


def test_a_platform_without_some_signals_has_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows has neither SIGHUP nor SIGUSR1."""
    for name in ("SIGHUP", "SIGUSR1"):
        monkeypatch.delattr(signal, name, raising=False)
    assert ending(ValueError("a mistake"), monkeypatch) == 2
    assert capsys.readouterr().err == "openunite info: a mistake\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder.npz", "is a folder, expected a file; choose another --output"),
        ("file.txt/a.npz", "cannot be a folder, because of a file; choose another --output"),
        ("file", "cannot be a folder, because of a file; choose another --output"),
    ],
)
def test_outputs_that_cannot_be_are_one_sentence(
    saved: str, tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "file.txt").touch()
    with pytest.raises(SystemExit) as stop:
        cli.main(["sample", saved, "--num-samples", "1", "--output", str(tmp_path / name)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"openunite sample: {line}" for line in [_sentence(tmp_path / name, message)]
    ]


def _sentence(path: Path, message: str) -> str:
    return f"{path.parent if path.name == 'a.npz' else path} {message}"

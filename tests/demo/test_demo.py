"""`openunite demo` as it is typed: its address, its warning, its mistakes."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.conftest import make_models

from openunite import ImagePipeline, weights
from openunite.cli import main
from openunite.demo.server import Site
from openunite.verbs import demo as verb


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    models = make_models()
    folder = tmp_path_factory.mktemp("demo") / "squares"
    ImagePipeline(models.encoder, models.decoder).save_pretrained(folder)
    return str(folder)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.usefixtures("ctrl_c")
def test_the_command_prints_its_address_and_ends_by_ctrl_c(saved: str) -> None:
    command = [sys.executable, "-u", "-m", "openunite.cli", "demo", saved, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"loading {saved} ...\n"
    found = re.match(r"Open (http://127\.0\.0\.1:\d+/) in a browser", process.stdout.readline())
    assert found is not None
    with urllib.request.urlopen(f"{found[1]}api/models", timeout=20) as answer:
        assert b'"squares"' in answer.read()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "openunite demo: stopped by Ctrl-C\n"
    assert process.returncode == 130


def test_another_address_is_asked_for_and_says_what_it_exposes(
    saved: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb.Server, "serve_forever", lambda self: None)
    main(["demo", saved, "--host", "0.0.0.0", "--port", "0"])
    error = capsys.readouterr().err
    assert re.search(r"Everybody who reaches this machine on port \d+ can use these", error)
    main(["demo", saved, "--port", "0"])
    assert "Everybody" not in capsys.readouterr().err


def test_a_port_that_is_taken_is_passed_over_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken"):
            verb.bind(Site([]), "127.0.0.1", port)
        monkeypatch.setattr(verb, "PORT", port)
        with verb.bind(Site([]), "127.0.0.1", None) as server:
            assert server.server_address[1] != port


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "neither a run"),
        (["--port", "70000"], "port must be a whole number from 0 to 65535"),
        (["--host", "nowhere.invalid"], "nowhere.invalid cannot be served"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], message: str, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = [] if arguments[0] == "/nowhere" else [saved]
    with pytest.raises(SystemExit) as stop:
        main(["demo", *sources, *arguments])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


def test_without_models_a_run_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "HOME", tmp_path)
    with pytest.raises(SystemExit):
        main(["demo"])
    assert "no models are packaged here; name a run" in capsys.readouterr().err

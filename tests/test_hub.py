"""Without a network what is asked of the hub has its answer at once."""

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from openunite import hub
from openunite.data.images.dataset import open_images
from openunite.runs import load_pipeline

UNKNOWN = "nobody/nothing-of-this-name"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Connections are refused by this machine itself, and names are not found."""
    asked: list[object] = []

    def refused(address: object, *_: object, **__: object) -> None:
        asked.append(address)
        raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    return asked


@pytest.mark.usefixtures("no_network")
def test_a_model_that_is_not_here_is_one_sentence_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="could not be had from the hub"):
        load_pipeline(UNKNOWN)
    assert time.monotonic() - start < 3.0


@pytest.mark.usefixtures("no_network")
def test_a_data_set_that_is_not_here_is_one_sentence_at_once() -> None:
    import datasets  # noqa: F401  its import is no part of the time

    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="neither an existing path nor a hub data set"):
        open_images(UNKNOWN, height=8, width=8, channels=3)
    assert time.monotonic() - start < 3.0


class Answer(BaseHTTPRequestHandler):
    """Every request is an error, which is an answer."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_the_hub_is_asked_where_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with hub.hub_or_cache():
            assert not constants.HF_HUB_OFFLINE
        server.shutdown()
    with hub.hub_or_cache():  # nobody listens there now
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_a_hub_that_accepts_and_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        assert not hub.answers()
        assert time.monotonic() - start < 3.0


def test_a_name_that_is_looked_up_for_ever_costs_two_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "_PATIENCE", 0.1)
    monkeypatch.setattr(socket, "create_connection", lambda *_: time.sleep(1) or socket.socket())
    start = time.monotonic()
    assert not hub.answers()
    assert time.monotonic() - start < 3.0


def test_a_proxy_is_asked_in_place_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
        assert hub.answers()
        server.shutdown()


def test_what_is_in_the_cache_is_found(
    no_network: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.conftest import make_models

    from openunite import ImagePipeline

    home, commit = tmp_path / "models--someone--model", 40 * "a"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    models = make_models()
    made = ImagePipeline(models.encoder, models.decoder)
    made.save_pretrained(home / "snapshots" / commit)
    found = ImagePipeline.from_pretrained("someone/model", cache_dir=tmp_path)
    assert found.latent_shape == made.latent_shape
    assert len(no_network) == 1

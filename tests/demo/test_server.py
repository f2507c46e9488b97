"""The demo's server: what it answers, what it refuses, and many visitors at once."""

import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from openunite.demo import server as servers
from openunite.demo.forms import MOST_UPLOAD
from openunite.demo.server import MOST_BODY, Server, Site, is_own_name

THREE_D = "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"  # 3dmol 2.5.5


class StubShow:
    """A show without a model: it counts how many jobs run at once."""

    name = "stub"

    def __init__(self) -> None:
        self.running = self.most = 0

    @property
    def actions(self) -> dict[str, Callable[..., None]]:
        return {"sample": lambda: None}

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "things": "stubs", "actions": list(self.actions)}

    def answer(self, action: str, values: Any) -> dict[str, Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(0.01)
        self.running -= 1
        return {"words": f"{action} {values}"}


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server(Site([StubShow()]), "127.0.0.1", 0)  # type: ignore[list-item]
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def ask(
    server: Server, path: str, body: Any = None, method: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, content and headers; `headers` has underscores for dashes."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    if body is not None:
        given = {"Content-Type": "application/json"} | given
    connection.request(method or ("GET" if body is None else "POST"), path, body, given)
    answer = connection.getresponse()
    found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    connection.close()
    return found


def complaint(server: Server, *given: Any, **named: Any) -> tuple[int, str]:
    status, content, _ = ask(server, *given, **named)
    return status, json.loads(content)["error"]


JOB = {"model": 0, "action": "sample", "form": {"seed": 3}}


def result(server: Server, job: Any) -> Any:
    """The result of a job, once it is done."""
    status, content, _ = ask(server, "/api/jobs", job)
    assert status == 200, content
    key = json.loads(content)["job"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = json.loads(ask(server, f"/api/jobs/{key}")[1])
        if found["state"] == "done":
            return found["result"]
        time.sleep(0.01)
    raise AssertionError(found)


def test_the_page_and_the_models_are_served_with_a_strict_policy(server: Server) -> None:
    for path, words in (
        ("/", b"<h1>openunite</h1>"),
        ("/page.js", b"use strict"),
        ("/page.css", b""),
    ):
        status, content, headers = ask(server, path)
        assert status == 200
        assert words in content
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    assert json.loads(ask(server, "/api/models")[1])[0]["name"] == "stub"


def test_a_job_is_done(server: Server) -> None:
    assert result(server, JOB) == {"words": "sample {'seed': 3}"}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/", "/api/models", "/api/jobs"])
def test_requests_to_another_name_are_refused(server: Server, host: str, path: str) -> None:
    body = JOB if path == "/api/jobs" else None
    assert complaint(server, path, body, Host=host) == (403, "this address is not known here")


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost", "file://"]
)
def test_requests_from_another_page_are_refused(server: Server, origin: str) -> None:
    for path, body in (("/api/models", None), ("/api/jobs", JOB)):
        status, words = complaint(server, path, body, Origin=origin)
        assert (status, words) == (403, "requests from other pages are not answered")


def test_requests_from_the_own_page_are_answered(server: Server) -> None:
    port = server.server_address[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:9000", f"[::1]:{port}"):
        status, _, _ = ask(server, "/api/jobs", JOB, Host=host, Origin=f"http://{host}")
        assert status == 200, host


@pytest.mark.parametrize(
    ("header", "bound", "known"),
    [
        ("localhost:1", "127.0.0.1", True),
        ("127.8.8.8", "127.0.0.1", True),
        ("192.168.1.5:7860", "127.0.0.1", False),
        ("192.168.1.5:7860", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        (socket.gethostname(), "0.0.0.0", True),
        (socket.gethostname(), "127.0.0.1", socket.gethostname() == "localhost"),
        ("demo.lan:80", "demo.lan", True),
        ("[fe80::1]:80", "::", True),
    ],
)
def test_names_of_this_machine(header: str, bound: str, known: bool) -> None:
    assert is_own_name(header, bound) is known


@pytest.mark.parametrize(
    "path",
    [
        "/../page.html",
        "/page.html",
        "/assets/3Dmol-min.js",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/server.py",
        "/etc/passwd",
        "/api/jobs/../models",
        "/api/jobs/",
    ],
)
def test_no_path_of_a_browser_is_opened(server: Server, path: str) -> None:
    assert complaint(server, path)[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "the request is no JSON"),
        (b"[" * 100_000, 400, "the request is no JSON"),
        (b"\xff", 400, "the request is no JSON"),
        ([], 400, "expected a JSON object"),
        ({}, 400, "the request names no model of this page"),
        ({"model": -1, "action": "sample"}, 400, "the request names no model of this page"),
        ({"model": True, "action": "sample"}, 400, "the request names no model of this page"),
        ({"model": 0, "action": "__class__"}, 400, "this model cannot do what is asked for"),
    ],
)
def test_bad_requests_are_one_sentence(server: Server, body: Any, status: int, words: str) -> None:
    assert complaint(server, "/api/jobs", body) == (status, words)
    assert result(server, JOB)


def test_other_forms_and_methods_are_refused(server: Server) -> None:
    assert complaint(server, "/api/jobs", b"a=1", Content_Type="text/plain")[0] == 415
    assert complaint(server, "/", JOB)[0] == 404
    assert ask(server, "/api/jobs", method="DELETE")[0] == 501


def test_long_requests_are_refused_before_they_are_read(server: Server) -> None:
    headers = {"Content_Length": str(MOST_BODY + 1)}
    status, words = complaint(server, "/api/jobs", b"", **headers)
    assert status == 413
    assert f"{MOST_UPLOAD:,} bytes" in words
    assert complaint(server, "/api/jobs", b"", Content_Length="-1")[0] == 411
    assert complaint(server, "/api/jobs", b"", Content_Length="9" * 400)[0] == 413


def test_a_request_that_does_not_arrive_is_given_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_SLOWEST", 0.2)
    with socket.create_connection(server.server_address[:2], timeout=20) as connection:
        head = "POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n".encode())
        for pause in (0.0, 0.1, 0.3):  # a byte now and then
            time.sleep(pause)
            connection.sendall(b" ")
        assert b"408" in connection.recv(4096)


def test_twenty_visitors_at_once_are_all_served_one_after_the_other(server: Server) -> None:
    def visit(number: int) -> Any:
        return result(server, JOB | {"form": number})

    with ThreadPoolExecutor(20) as visitors:
        found = list(visitors.map(visit, range(20)))
    assert found == [{"words": f"sample {i}"} for i in range(20)]
    assert server.site.shows[0].most == 1  # type: ignore[attr-defined]


def test_a_full_queue_is_said(server: Server) -> None:
    server.site.jobs._most = 0
    status, words = complaint(server, "/api/jobs", JOB)
    assert (status, words) == (503, "too many others are waiting; try again in a minute")


def test_nobody_sees_the_job_of_another(server: Server) -> None:
    assert complaint(server, "/api/jobs/guessed") == (
        404,
        "this job is not known any more; ask again",
    )


def test_visitors_who_leave_are_silent_and_defects_are_not(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(server.server_address[:2]) as connection:
        connection.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\n")
    ask(server, "/")
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(Site, "models", lambda self: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server, "/api/models")
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert ask(server, "/")[0] == 200


def test_connections_are_bounded(server: Server) -> None:
    idle = [socket.create_connection(server.server_address[:2]) for _ in range(64)]
    time.sleep(0.3)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask(server, "/")
    for connection in idle:
        connection.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            assert ask(server, "/")[0] == 200
            return
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.1)
    raise AssertionError("no room again")


def test_the_3d_viewer_is_the_published_one(server: Server) -> None:
    content = ask(server, "/3Dmol-min.js")[1]
    assert hashlib.sha256(content).hexdigest() == THREE_D

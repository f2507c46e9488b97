"""The demo's web server: fixed pages, a list of models, and a queue of jobs.

It answers only requests that name this machine (`Host`) and come from its own page (`Origin`), and
opens no path that comes from a browser.
"""

import json
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from openunite.demo.forms import MOST_UPLOAD
from openunite.demo.jobs import Jobs, QueueFull
from openunite.demo.shows import Show

MOST_BODY = MOST_UPLOAD * 4 // 3 + 100_000  # bytes of a request: an upload in base64, and a form
_MOST_CONNECTIONS = 64
_SLOWEST = 30.0  # seconds that a request may take to arrive
_PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/view.js": ("view.js", "text/javascript; charset=utf-8"),
    "/3Dmol-min.js": ("assets/3Dmol-min.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Refusal(Exception):
    """A request that is answered with a status and one sentence."""

    status: HTTPStatus
    message: str


@dataclass(frozen=True)
class Site:
    """What requests are answered from: the shows, the queue and the fixed pages."""

    shows: Sequence[Show]
    jobs: Jobs = field(default_factory=Jobs)
    pages: Mapping[str, tuple[bytes, str]] = field(default_factory=lambda: _read_pages())

    def models(self) -> list[dict[str, Any]]:
        """What the page needs to know of each model."""
        return [show.describe() for show in self.shows]

    def submit(self, values: Any, owner: str) -> dict[str, Any]:
        """Queue what a request asks for. Refusal if it names no model, or the queue is full."""
        if not isinstance(values, Mapping):
            raise Refusal(HTTPStatus.BAD_REQUEST, "expected a JSON object")
        number, action = values.get("model"), values.get("action")
        if type(number) is not int or not 0 <= number < len(self.shows):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request names no model of this page")
        show = self.shows[number]
        if action not in show.actions:
            raise Refusal(HTTPStatus.BAD_REQUEST, "this model cannot do what is asked for")
        try:
            return {
                "job": self.jobs.submit(partial(show.answer, action, values.get("form")), owner)
            }
        except QueueFull as error:
            sentence = "too many others are waiting; try again in a minute"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence) from error

    def look(self, key: str) -> dict[str, Any]:
        """The state of a job. Refusal for an unknown key."""
        found = self.jobs.look(key)
        if found is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "this job is not known any more; ask again")
        return vars(found)


class Server(ThreadingHTTPServer):
    """A server with a bounded number of connections. OSError if the port is taken."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, site: Site, host: str, port: int) -> None:
        self.site, self.host = site, host
        self._room = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve on a thread of its own, or close the connection if there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve, and make room at the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke, because visitors leave; print defects."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc(file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; every answer has the security headers."""

    server: Server
    timeout = _SLOWEST
    server_version, sys_version = "openunite", ""

    def do_GET(self) -> None:
        """Serve a page, the list of models, or the state of a job."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Take a job."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal is for the one who started the demo."""

    def _answer(self, method: Any) -> None:
        try:
            self._check_origin()
            content, kind = method()
            self._send(HTTPStatus.OK, content, kind)
        except Refusal as refusal:
            self._send(refusal.status, *_json({"error": refusal.message}))

    def _get(self) -> tuple[bytes, str]:
        site, path = self.server.site, urlsplit(self.path).path
        if path in site.pages:
            return site.pages[path]
        if path == "/api/models":
            return _json(site.models())
        if path.startswith("/api/jobs/"):
            return _json(site.look(path.removeprefix("/api/jobs/")))
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such page")

    def _post(self) -> tuple[bytes, str]:
        if self.path != "/api/jobs":
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such page")
        if self.headers.get_content_type() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected JSON")
        try:
            values = json.loads(self._body())
        except (ValueError, RecursionError) as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request is no JSON") from error
        visitor = self.client_address[0]
        owner = "" if ip_address(visitor.partition("%")[0]).is_loopback else visitor
        return _json(self.server.site.submit(values, owner))

    def _body(self) -> bytes:
        """The body of a request. Refusal if it is too long, or arrives too slowly."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal()):
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        if len(length) > 12 or int(length) > MOST_BODY:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the request is too long; a file may have {MOST_UPLOAD:,} bytes",
            )
        parts, missing, deadline = list[bytes](), int(length), time.monotonic() + _SLOWEST
        while missing and time.monotonic() < deadline:
            part = self.rfile.read1(min(missing, 1 << 16))
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        if missing:
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive; send it again")
        return b"".join(parts)

    def _check_origin(self) -> None:
        """Refusal for a request to another name than this machine's, or from another page.

        A page elsewhere can send requests here, or give its own name the address of this machine.
        """
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if not is_own_name(host, self.server.host):
            raise Refusal(HTTPStatus.FORBIDDEN, "this address is not known here")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise Refusal(HTTPStatus.FORBIDDEN, "requests from other pages are not answered")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def is_own_name(header: str, bound: str) -> bool:
    """Whether a `Host` header names this machine, which is bound to the address `bound`.

    Addresses are no danger: a page elsewhere that wants to be taken for this one needs a name.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or is_loopback(name):
        return True
    if is_loopback(bound):
        return False
    return _is_address(name) or name in {bound, socket.gethostname().lower(), socket.getfqdn()}


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine only."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _json(values: Any) -> tuple[bytes, str]:
    return json.dumps(values).encode(), "application/json"


def _read_pages() -> dict[str, tuple[bytes, str]]:
    """The pages, read once: a request only chooses among them."""
    home = files("openunite.demo")
    return {path: (home.joinpath(name).read_bytes(), kind) for path, (name, kind) in _PAGES.items()}

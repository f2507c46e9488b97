"""`openunite demo`: a web page for trained models."""

import errno
from collections.abc import Sequence
from pathlib import Path

from openunite.commands import Demo
from openunite.demo.models import open_shows
from openunite.demo.server import Server, Site, is_loopback
from openunite.pipelines.inputs import whole_number
from openunite.progress import say, showing
from openunite.weights import packaged_names

PORT = 7860
_TRIED = 20  # ports after the usual one, if that is taken


def demo(
    sources: Sequence[str | Path] | str | Path = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    progress: bool = True,
) -> None:
    """Serve the web page until it is interrupted, and print its address.

    `sources` are runs, pipeline folders, packaged names or hub ids; by default all packaged models.
    The page is for this machine only, unless `host` is another address. `port` 0 is any free one;
    None is 7860, or one of the next if that is taken. Raises ValueError or FileNotFoundError for a
    model that cannot be shown, and OSError for a port that is taken.
    """
    chosen = [sources] if isinstance(sources, str | Path) else list(sources) or packaged_names()
    if not chosen:
        raise ValueError("no models are packaged here; name a run: openunite demo runs/quickstart")
    if port is not None:
        whole_number("port", port, 0, 65535)
    with showing(progress):
        say(f"loading {', '.join(map(str, chosen))} ...")
        server = bind(Site(open_shows(chosen)), host, port)
        say(f"Open {server.url} in a browser; Ctrl-C ends the demo.")
        if not is_loopback(host):
            say(
                f"Everybody who reaches this machine on port {server.server_address[1]} can use "
                "these models and its processor; there is no password and no encryption.",
                err=True,
            )
        with server:
            server.serve_forever()


def bind(site: Site, host: str, port: int | None) -> Server:
    """A server at the port, or at the first free one from 7860 on. OSError if there is none."""
    tried = [port] if port is not None else [*range(PORT, PORT + _TRIED)]
    for number in tried:
        try:
            return Server(site, host, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(
                    f"{host} cannot be served ({error}); choose another --host"
                ) from error
    raise OSError(f"port {tried[0]} of {host} is taken; choose another --port")


def run(command: Demo) -> None:
    """Run `openunite demo`."""
    demo(command.sources, host=command.host, port=command.port)

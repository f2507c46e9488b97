"""The Hugging Face hub, or its cache alone where there is no network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

_PATIENCE = 2.0  # seconds; the hub's own client would try again for half a minute


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Inside, the hub is not asked if it cannot be reached: what is in its cache is found at once.

    What is not is an error of the hub's client, as in its offline mode.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_reachable() -> bool:
    """Whether a connection to the hub opens in two seconds; nobody knows that behind a proxy."""
    place = urlsplit(constants.ENDPOINT)
    if {place.scheme, "all"} & getproxies().keys():
        return True
    opened: list[bool] = []

    def connect() -> None:
        port = place.port or (443 if place.scheme == "https" else 80)
        try:
            socket.create_connection((place.hostname, port), _PATIENCE).close()
        except OSError:
            return
        opened.append(True)

    thread = Thread(target=connect, daemon=True)  # looking up a name knows no time limit
    thread.start()
    thread.join(_PATIENCE)
    return bool(opened)

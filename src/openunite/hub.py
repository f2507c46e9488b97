"""The Hugging Face hub, or its cache alone where there is no network."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from huggingface_hub import constants

_PATIENCE = 4.0  # seconds; the hub's own client would try again for half a minute


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """Inside, the hub is not asked if it does not answer: what is in its cache is found at once.

    What is not is an error of the hub's client, as in its offline mode.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def answers() -> bool:
    """Whether the hub answers a request, perhaps with an error, within four seconds."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            request = Request(constants.ENDPOINT, method="HEAD")
            build_opener().open(request, timeout=_PATIENCE).close()  # proxies as they are now
        except HTTPError:
            pass
        except (OSError, HTTPException, ValueError):  # ValueError: the address is none
            return
        answered.append(True)

    thread = Thread(target=ask, daemon=True)  # looking up a name knows no time limit
    thread.start()
    thread.join(_PATIENCE)
    return bool(answered)

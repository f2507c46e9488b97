"""The clock of a command: a deadline counts what came before training, such as imports."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

now: Callable[[], float] = time.perf_counter  # seconds; replaced where processor time shall count
processor: Callable[[], float] = time.process_time  # seconds of all threads
_BEGAN: ContextVar[float | None] = ContextVar("began", default=None)


@contextmanager
def counting() -> Iterator[None]:
    """Count seconds from here on inside a `with` block, unless they are being counted already."""
    token = _BEGAN.set(began())
    try:
        yield
    finally:
        _BEGAN.reset(token)


def began() -> float:
    """The time when the command began; now, if none is being counted."""
    start = _BEGAN.get()
    return now() if start is None else start

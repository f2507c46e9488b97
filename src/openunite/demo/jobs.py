"""A bounded queue of jobs with one worker, so that visitors wait for each other in order."""

import secrets
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

MOST_WAITING = 32
MOST_EACH = 4  # waiting jobs of one visitor from another machine
_KEPT = 16  # finished jobs whose results are kept
_PATIENCE = 30.0  # seconds after which a waiting job is dropped if nobody has asked for it

Work = Callable[[], Any]
USER_ERRORS = (ValueError, OSError, ImportError)  # errors whose sentence is for the visitor


class QueueFull(Exception):
    """Too many jobs are waiting."""


@dataclass(frozen=True)
class State:
    """What a visitor can know of a job; `place` is the number of jobs before it."""

    state: Literal["waiting", "running", "done", "failed"]
    place: int = 0
    result: Any = None
    message: str = ""


@dataclass
class _Job:
    key: str
    work: Work
    owner: str
    seen: float
    state: State


class Jobs:
    """Jobs run one at a time, in the order in which they came, on a thread of their own.

    A job is known by a random key that only its visitor has: nobody can look at, or stop, the job
    of another. A waiting job whose visitor has left is dropped.
    """

    def __init__(
        self, most: int = MOST_WAITING, kept: int = _KEPT, patience: float = _PATIENCE
    ) -> None:
        self._most, self._kept, self._patience = most, kept, patience
        self._waiting: deque[_Job] = deque()
        self._known: OrderedDict[str, _Job] = OrderedDict()
        self._running: _Job | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True, name="openunite demo").start()

    def submit(self, work: Work, owner: str = "") -> str:
        """Queue a job and return its key. `owner` is a visitor whose waiting jobs are limited.

        Raises QueueFull if too many jobs are waiting.
        """
        with self._changed:
            self._drop_left()
            own = sum(job.owner == owner for job in self._waiting) if owner else 0
            if len(self._waiting) >= self._most or own >= MOST_EACH:
                raise QueueFull
            job = _Job(secrets.token_urlsafe(16), work, owner, time.monotonic(), State("waiting"))
            self._waiting.append(job)
            self._known[job.key] = job
            self._changed.notify()
            return job.key

    def look(self, key: str) -> State | None:
        """The state of a job; None for a key that is not, or no longer, known."""
        with self._changed:
            job = self._known.get(key)
            if job is None:
                return None
            job.seen = time.monotonic()
            if job.state.state != "waiting":
                return job.state
            return State("waiting", self._waiting.index(job) + (self._running is not None))

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._waiting)
                self._drop_left()
                if not self._waiting:
                    continue
                job = self._running = self._waiting.popleft()
                job.state = State("running")
            job.state = _outcome(job.work)
            with self._changed:
                self._forget_old()

    def _drop_left(self) -> None:
        """Drop the waiting jobs whose visitors have stopped asking."""
        oldest = time.monotonic() - self._patience
        for job in [job for job in self._waiting if job.seen < oldest]:
            self._waiting.remove(job)
            del self._known[job.key]

    def _forget_old(self) -> None:
        finished = [k for k, job in self._known.items() if job.state.state in ("done", "failed")]
        for key in finished[: max(0, len(finished) - self._kept)]:
            del self._known[key]


def _outcome(work: Work) -> State:
    try:
        return State("done", result=work())
    except USER_ERRORS as error:
        return State("failed", message=str(error))
    except Exception as error:  # a defect must not end the worker
        traceback.print_exc(file=sys.stderr)
        name = type(error).__name__
        return State("failed", message=f"The server failed ({name}); its terminal says where.")

"""Signals that ask a run to stop, sent by a cluster, a closing terminal or a person."""

import signal
import threading
from types import FrameType
from typing import Any

# SIGTERM ends a job, SIGUSR1 is Slurm's warning before that, SIGHUP means a lost connection.
# Signals that the platform lacks are left out.
_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
_INSISTENT = ("SIGTERM", "SIGINT")  # a second one of these ends the process at once


def stop_signals() -> list[signal.Signals]:
    """The stop signals that this platform has."""
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class StopSignals:
    """While active, a stop signal sets `asked`; a second SIGTERM or Ctrl-C ends the process.

    The run stops after the current step. Under nohup, SIGHUP stays ignored.
    """

    def __init__(self) -> None:
        self.asked = False
        self._insisted = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                if number.name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if signal.Signals(number).name in _INSISTENT:
            if self._insisted:
                raise KeyboardInterrupt
            self._insisted = True

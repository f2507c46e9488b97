"""Which signals ask a run to stop, and which end it."""

import os
import signal
from collections.abc import Iterator

import pytest

from openunite.training.signals import StopSignals, stop_signals

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    numbers = stop_signals()
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_each_of_them_asks_for_a_stop(name: str) -> None:
    with StopSignals() as signals:
        assert not signals.asked
        signal.raise_signal(signal.Signals[name])
        assert signals.asked


@posix
@pytest.mark.parametrize("names", [["SIGTERM", "SIGTERM"], ["SIGHUP", "SIGINT", "SIGTERM"]])
def test_asking_again_by_sigterm_or_control_c_kills(names: list[str]) -> None:
    *first, last = (signal.Signals[name] for name in names)
    with StopSignals():
        for number in first:
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(last)


@posix
def test_a_warning_before_the_end_kills_nobody() -> None:
    """Slurm sends SIGUSR1 and later SIGTERM; a terminal that closes may send SIGHUP twice."""
    with StopSignals() as signals:
        for name in ("SIGHUP", "SIGHUP", "SIGUSR1", "SIGTERM", "SIGUSR1"):
            signal.raise_signal(signal.Signals[name])
        assert signals.asked


@posix
def test_under_nohup_a_closing_terminal_changes_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_platform_without_some_of_them_has_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither SIGHUP nor SIGUSR1."""
    for name in ("SIGHUP", "SIGUSR1"):
        monkeypatch.delattr(signal, name, raising=False)
    assert stop_signals() == [signal.SIGTERM, signal.SIGINT]
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        assert signals.asked

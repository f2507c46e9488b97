"""Clocks and counters against what is known beforehand."""

import time
from collections.abc import Callable

import pytest
import torch
from benchmarks.measure import Timing, alternate, paired, peak_bytes

CPU = torch.device("cpu")


def test_variants_alternate_and_warm_up_apart() -> None:
    called: list[str] = []
    variants = {name: lambda name=name: called.append(name) for name in "ab"}
    timings = alternate(variants, CPU, runs=3, warmup=2)
    assert len(called) == 2 * 5
    assert [set(called[i : i + 2]) for i in range(0, 10, 2)] == [{"a", "b"}] * 5
    assert called[0] != called[2]  # the order turns
    assert {timing.runs for timing in timings.values()} == {3}


def test_a_longer_call_takes_longer() -> None:
    """By the processor's clock: work, not waiting."""

    def work(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    timings = alternate({"short": lambda: work(0.01), "long": lambda: work(0.03)}, CPU, runs=3)
    assert timings["long"].median / timings["short"].median == pytest.approx(3.0, rel=0.3)


def test_quartiles() -> None:
    timing = Timing.of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (timing.median, timing.lower_quartile, timing.minimum) == (3.0, 2.0, 1.0)
    assert timing.spread == 2.0


def test_peak_memory_counts_what_lives_at_once() -> None:
    megabyte = 2**18  # of float32

    def call() -> None:
        for _ in range(5):
            torch.zeros(2 * megabyte)
        first, second = torch.zeros(megabyte), torch.zeros(3 * megabyte)
        del first, second

    assert peak_bytes(call, CPU) == pytest.approx(4 * 2**20, rel=0.01)


def test_pairs_are_compared_with_their_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that halves its speed from pair to pair changes no ratio."""
    calls: list[str] = []

    def seconds(call: Callable[[], object], device: torch.device) -> float:
        call()
        slowness = 2.0 ** ((len(calls) - 1) // 2)
        return slowness * (3.0 if calls[-1] == "other" else 2.0)

    monkeypatch.setattr("benchmarks.measure.seconds_of", seconds)
    base, other, ratio = paired(
        lambda: calls.append("base"), lambda: calls.append("other"), torch.device("cpu"), runs=4
    )
    assert (ratio.median, ratio.spread, ratio.runs) == (1.5, 0.0, 4)
    assert other.median == 1.5 * base.median
    assert calls[:4] == ["other", "base", "base", "other"]

"""Clocks and memory: variants in turn, in one process, warm-up apart.

On a machine that others share, a median of alternating runs is fair between variants; the lower
quartile beside it says what each can do when it is left alone.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.profiler import ProfilerActivity, profile

Variants = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over `runs` calls; `spread` is the distance between the quartiles."""

    median: float
    lower_quartile: float
    minimum: float
    spread: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """From at least two measurements."""
        low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
        middle = statistics.median(seconds)
        return cls(middle, low, min(seconds), high - low, len(seconds))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def alternate(
    variants: Variants, device: torch.device, *, runs: int, warmup: int = 2
) -> dict[str, Timing]:
    """Call each variant `runs` times, one after the other in every round, after `warmup` rounds.

    Every other round goes backwards, so that no variant always follows the same one.
    """
    seconds = _rounds(variants, device, runs, warmup)
    return {name: Timing.of(taken) for name, taken in seconds.items()}


def paired(
    base: Callable[[], object],
    other: Callable[[], object],
    device: torch.device,
    *,
    runs: int,
    warmup: int = 2,
) -> tuple[Timing, Timing, Timing]:
    """`alternate` of two, and how many times as long as `base` each call of `other` took.

    The median of the ratios of neighbors: a machine whose speed drifts slows down both.
    """
    ours, theirs = _rounds({"base": base, "other": other}, device, runs, warmup).values()
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return Timing.of(ours), Timing.of(theirs), Timing.of(ratios)


def _rounds(
    variants: Variants, device: torch.device, runs: int, warmup: int
) -> dict[str, list[float]]:
    """Seconds of each variant in each round after the warm-up; every other round goes backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-warmup, runs):
        order = list(variants.items())
        for name, call in order if number % 2 else reversed(order):
            taken = seconds_of(call, device)
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """One call by the clock; on CUDA between two events of the stream, synchronized."""
    if device.type != "cuda":
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        started = clock()
        call()
        return clock() - started
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) * 1e-3


def clock_of(device: torch.device) -> str:
    """What `seconds_of` reads. On one thread the time of the processor itself: what other programs
    take of a shared machine is not in it."""
    if device.type == "cuda":
        return "CUDA events"
    return "processor time" if torch.get_num_threads() == 1 else "wall clock"


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors alive during `call`, beyond those alive before it.

    On CUDA by the caching allocator's counter; elsewhere by the sum of the allocations and frees
    that torch.profiler records. Call it once before, so that optimizer state is not counted.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def memory_by(device: torch.device) -> str:
    """How `peak_bytes` measures, for the record."""
    return "torch.cuda allocator" if device.type == "cuda" else "torch.profiler allocations"


@contextmanager
def samples_through(*kinds: type[nn.Module]) -> Iterator[list[int]]:
    """The batch sizes of all passes through modules of these kinds, as they happen."""
    passed: list[int] = []

    def note(module: nn.Module, given: Any, output: Tensor) -> None:
        if isinstance(module, kinds):
            passed.append(len(output))

    hook = register_module_forward_hook(note)
    try:
        yield passed
    finally:
        hook.remove()

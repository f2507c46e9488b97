"""The number of CPU threads of a run, which follows the share of the machine that the run gets.

The threads of one operation wait for each other, and they spin while they wait. Beside other busy
programs a thread often waits for one that has no core at the moment, so that two threads can be
many times slower than one. The CPU time of the process, divided by the time that passed, says how
many cores it really had.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

import torch

from openunite.progress import say

T = TypeVar("T")
WINDOW = 0.5
"""Seconds of training after which the number of threads is judged."""
FEWER_BELOW, MORE_ABOVE = 0.75, 0.95
"""Cores per thread below which a run takes fewer threads, and above which it tries more."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 160.0
"""Seconds until more threads are tried; the wait doubles after each try that fails."""


class Threads:
    """Chooses the number of threads of torch inside `with`; restores it at the end.

    The number stays as it is on a GPU, beside other processes of the same run (`adapts=False`), and
    where the user has chosen it with OMP_NUM_THREADS or MKL_NUM_THREADS.

    Sums of another number of threads are rounded otherwise, so `count` belongs to the state of a
    run: two runs agree to the last bit as long as their counts agree.
    """

    def __init__(self, *, adapts: bool) -> None:
        chosen = any(name in os.environ for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
        self.most = self.count = torch.get_num_threads()
        self.adapts = adapts and not chosen and self.most > 1
        self._wall = self._cpu = 0.0
        self._since, self._wait, self._trying = 0.0, FIRST_WAIT, False

    def __enter__(self) -> Self:
        self.set(self.count)
        return self

    def __exit__(self, *_: object) -> None:
        if self.adapts:
            torch.set_num_threads(self.most)

    def set(self, count: int) -> None:
        """Use `count` threads from now on, but no more than there were at the start."""
        if self.adapts:
            self.count = min(count, self.most)
            torch.set_num_threads(self.count)

    @contextmanager
    def measured(self, sign: int = 1) -> Iterator[None]:
        """Add the time spent inside to the window, or take it away (`sign` -1)."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._wall += sign * (time.perf_counter() - wall)
            self._cpu += sign * (time.process_time() - cpu)

    def reading(self, items: Iterator[T]) -> Iterator[T]:
        """The same items; the time that reading them takes is left out of the window."""
        while True:
            with self.measured(-1):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def judge(self) -> None:
        """At the end of a window, choose the number of threads of the next one."""
        if not self.adapts or self._wall < WINDOW:
            return
        count = self.choose(self._cpu / self._wall, self._wall)
        if count != self.count:
            say(f"{self.count} -> {count} threads: {self._cpu / self._wall:.1f} cores were free")
            self.set(count)
        self._wall = self._cpu = 0.0

    def choose(self, cores: float, seconds: float) -> int:
        """The number of threads after `seconds` in which the run had `cores` cores."""
        self._since += seconds
        if self.count > 1 and cores < FEWER_BELOW * self.count:
            self._wait = min(2 * self._wait, LONGEST_WAIT) if self._trying else FIRST_WAIT
            self._since, self._trying = 0.0, False
            return max(1, int(cores))
        if self._since < (FIRST_WAIT if self._trying else self._wait):
            return self.count
        self._trying = False  # threads that were added have been worth it
        if self.count < self.most and cores > MORE_ABOVE * self.count:
            self._since, self._trying = 0.0, True
            return min(self.most, 2 * self.count)
        return self.count

"""The queue of the demo: one worker, in order, bounded, and nobody reaches the job of another."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from openunite.demo.jobs import MOST_EACH, Jobs, QueueFull, State


class Gate:
    """Work that waits until it is opened, and notes its number."""

    def __init__(self) -> None:
        self.opened, self.done = threading.Event(), list[int]()

    def work(self, number: int) -> Callable[[], int]:
        def work() -> int:
            assert self.opened.wait(20)
            self.done.append(number)
            return number

        return work


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.opened.set()


def wait_for(jobs: Jobs, key: str, *states: str) -> State:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = jobs.look(key)
        assert found is not None
        if found.state in states:
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_jobs_run_in_order_and_know_their_place(gate: Gate) -> None:
    jobs = Jobs()
    keys = [jobs.submit(gate.work(i)) for i in range(4)]
    wait_for(jobs, keys[0], "running")
    assert [jobs.look(key) for key in keys[1:]] == [State("waiting", i) for i in (1, 2, 3)]
    gate.opened.set()
    assert [wait_for(jobs, key, "done").result for key in keys] == [0, 1, 2, 3]
    assert gate.done == [0, 1, 2, 3]


def test_too_many_jobs_are_refused_and_there_is_room_again_afterwards(gate: Gate) -> None:
    jobs = Jobs(most=2)
    first = jobs.submit(gate.work(0))
    wait_for(jobs, first, "running")
    keys = [jobs.submit(gate.work(i)) for i in (1, 2)]
    with pytest.raises(QueueFull):
        jobs.submit(gate.work(3))
    gate.opened.set()
    wait_for(jobs, keys[-1], "done")
    assert wait_for(jobs, jobs.submit(gate.work(4)), "done").result == 4


def test_one_visitor_cannot_fill_the_queue(gate: Gate) -> None:
    jobs = Jobs()
    wait_for(jobs, jobs.submit(gate.work(0), "10.0.0.1"), "running")
    for i in range(MOST_EACH):
        jobs.submit(gate.work(i), "10.0.0.1")
    with pytest.raises(QueueFull):
        jobs.submit(gate.work(9), "10.0.0.1")
    assert jobs.look(jobs.submit(gate.work(10), "10.0.0.2")) == State("waiting", MOST_EACH + 1)


def test_a_job_whose_visitor_has_left_is_dropped(gate: Gate) -> None:
    jobs = Jobs(patience=0.1)
    first = jobs.submit(gate.work(0))
    wait_for(jobs, first, "running")
    left, stays = jobs.submit(gate.work(1)), jobs.submit(gate.work(2))
    for _ in range(10):
        assert jobs.look(stays) is not None
        time.sleep(0.03)
    gate.opened.set()
    assert wait_for(jobs, stays, "done").result == 2
    assert jobs.look(left) is None
    assert gate.done == [0, 2]


def test_mistakes_get_their_sentence_and_defects_do_not_end_the_worker(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def mistake() -> None:
        raise ValueError("no such class")

    def defect() -> None:
        raise ZeroDivisionError("a detail")

    jobs = Jobs()
    assert wait_for(jobs, jobs.submit(mistake), "failed").message == "no such class"
    found = wait_for(jobs, jobs.submit(defect), "failed")
    assert found.message == "The server failed (ZeroDivisionError); its terminal says where."
    assert "a detail" in capfd.readouterr().err
    assert wait_for(jobs, jobs.submit(lambda: 7), "done").result == 7


def test_old_results_are_forgotten() -> None:
    jobs = Jobs(kept=2)
    keys = []
    for i in range(5):
        keys.append(jobs.submit(lambda i=i: i))
        wait_for(jobs, keys[-1], "done")
    last = jobs.submit(lambda: 5)
    wait_for(jobs, last, "done")
    assert [jobs.look(key) for key in keys[:3]] == [None] * 3


def test_keys_are_long_and_different() -> None:
    jobs = Jobs()
    keys = {jobs.submit(lambda: 0) for _ in range(20)}
    assert len(keys) == 20
    assert min(map(len, keys)) >= 20
    assert jobs.look("") is None

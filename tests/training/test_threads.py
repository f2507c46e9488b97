"""The number of threads follows the cores that a run gets, and no user's choice is touched."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.training.tiny import tiny_trainer

from openunite.training import threads as module
from openunite.training.checkpoint import list_checkpoints, load_checkpoint
from openunite.training.threads import FIRST_WAIT, Threads


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which torch uses four threads that nobody has chosen."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def after(threads: Threads, *windows: tuple[float, float]) -> list[int]:
    """The counts chosen after windows of (cores, seconds)."""
    counts = []
    for cores, seconds in windows:
        threads.set(threads.choose(cores, seconds))
        counts.append(threads.count)
    return counts


@pytest.mark.usefixtures("four")
def test_a_run_with_all_its_cores_keeps_its_threads() -> None:
    assert after(Threads(adapts=True), (3.9, 1.0), (3.2, 1.0), (3.9, 500.0)) == [4, 4, 4]


@pytest.mark.usefixtures("four")
def test_a_run_with_fewer_cores_takes_as_many_threads_as_it_has_cores() -> None:
    assert after(Threads(adapts=True), (2.3, 1.0)) == [2]
    assert after(Threads(adapts=True), (0.3, 1.0)) == [1]


@pytest.mark.usefixtures("four")
def test_more_threads_are_tried_once_the_run_has_a_core_for_each_of_its_own() -> None:
    threads = Threads(adapts=True)
    counts = after(threads, (0.5, 1.0), (0.6, 60.0), (0.99, 1.0), (1.99, 1.0), (1.99, FIRST_WAIT))
    assert counts == [1, 1, 2, 2, 4]


@pytest.mark.usefixtures("four")
def test_each_try_that_fails_doubles_the_wait_for_the_next() -> None:
    threads, waits = Threads(adapts=True), []
    threads.set(1)
    for _ in range(6):
        seconds = 0
        while threads.count == 1:
            threads.set(threads.choose(1.0, 1.0))
            seconds += 1
        waits.append(seconds)
        threads.set(threads.choose(1.0, 1.0))  # two threads get one core
    assert waits == [10, 20, 40, 80, 160, 160]


@pytest.mark.usefixtures("four")
def test_the_number_is_restored_after_training() -> None:
    threads = Threads(adapts=True)
    with threads:
        threads.set(2)
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4
    with threads:  # the evaluation after training
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_a_number_that_the_user_chose_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "4")
    threads = Threads(adapts=True)
    threads.set(1)
    assert (threads.count, torch.get_num_threads()) == (4, 4)


@pytest.mark.usefixtures("four")
def test_reading_data_does_not_count_as_a_lack_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(module.time, "process_time", lambda: 0.0)

    def slow() -> Iterator[int]:
        for i in range(3):
            clock[0] += 5.0
            yield i

    threads = Threads(adapts=True)
    items = threads.reading(slow())
    for _ in range(3):
        with threads.measured():
            next(items)
    assert threads._wall == 0.0


@pytest.mark.usefixtures("four")
def test_a_resumed_run_begins_with_the_threads_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 0.0)
    monkeypatch.setattr(Threads, "choose", lambda *_: 3)
    tiny_trainer(tmp_path, steps=4).fit()
    loaded = load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[0])
    assert loaded.state["threads"] == 3
    monkeypatch.setattr(Threads, "judge", lambda _: None)
    trainer = tiny_trainer(tmp_path, steps=6)
    trainer.fit()
    assert trainer.threads.count == 3
    assert torch.get_num_threads() == 4


def test_a_checkpoint_without_the_number_of_threads_resumes(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, steps=4).fit()
    checkpoint = list_checkpoints(tmp_path / "checkpoints")[0]
    state = json.loads((checkpoint / "state.json").read_text())
    del state["threads"]
    text = json.dumps(state)
    (checkpoint / "state.json").write_text(text)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["sha256"]["state.json"] = hashlib.sha256(text.encode()).hexdigest()
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert tiny_trainer(tmp_path, steps=6).fit().finished

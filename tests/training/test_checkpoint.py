"""Checkpoints: whole or not at all, checked before they are trusted, never fewer than before."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from openunite.training import checkpoint
from openunite.training.checkpoint import (
    FORMAT_VERSION,
    CheckpointError,
    Loaded,
    NewerFormatError,
    list_checkpoints,
    load_checkpoint,
    load_newest,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    verify,
)


def content(step: int) -> dict[str, dict[str, Tensor]]:
    """Tensors that tell the step they belong to."""
    weight = torch.arange(6.0).reshape(2, 3).T + step  # not contiguous
    return {
        "model": {"weight": weight, "empty": torch.zeros(1, 0)},
        "ema": {"count": torch.tensor(step)},
    }


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(folder, step, content(step), {"seconds": 1.5 * step}, keep)


def newest(folder: Path) -> Loaded:
    """The newest checkpoint of a folder in which nothing is damaged."""
    loaded, complaints = load_newest(folder)
    assert loaded is not None
    assert complaints == []
    return loaded


def reached(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def assert_holds(path: Path, step: int) -> None:
    loaded = load_checkpoint(path)
    assert_content(loaded.tensors, loaded.state, step)


def assert_content(tensors: dict[str, dict[str, Tensor]], state: object, step: int) -> None:
    assert state == {"step": step, "seconds": 1.5 * step}
    expected = content(step)
    assert tensors.keys() - {"filler"} == expected.keys()
    for group, members in expected.items():
        assert tensors[group].keys() == members.keys()
        for name, value in members.items():
            assert torch.equal(tensors[group][name], value)


def damage(path: Path) -> None:
    """Turn over one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = save(tmp_path / "new" / "folder", 7)
    assert path.name == "step-00000007"
    assert_holds(path, 7)
    assert verify(path)["format_version"] == FORMAT_VERSION


def test_no_folder_and_an_empty_folder_have_no_checkpoint(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "nowhere") == (None, [])
    assert load_newest(tmp_path) == (None, [])


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 9, 10, 100):
        save(tmp_path, step, keep=3)
    assert [p.name for p in list_checkpoints(tmp_path)] == [
        "step-00000100",
        "step-00000010",
        "step-00000009",
    ]
    loaded = newest(tmp_path)
    assert loaded.path == tmp_path / "step-00000100"
    assert_content(loaded.tensors, loaded.state, 100)


def test_loading_the_newest_hashes_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(save(tmp_path, 1) / "state.json")
    save(tmp_path, 2)
    hashed: list[str] = []
    original = checkpoint.sha256_of

    def count(path: Path) -> str:
        hashed.append(f"{path.parent.name}/{path.name}")
        return original(path)

    monkeypatch.setattr(checkpoint, "sha256_of", count)
    newest(tmp_path)
    files = ("ema.safetensors", "model.safetensors", "state.json")
    assert sorted(hashed) == [f"step-00000002/{name}" for name in files]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-12").mkdir()
    for step in (1, 2, 3):
        save(tmp_path, step, keep=1)
    assert names(tmp_path) == ["notes.txt", "step-00000003", "step-12"]


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    """Of a process that has ended; what another one is writing stays."""
    ended = multiprocessing.get_context("fork").Process(target=str)
    ended.start()
    ended.join()
    for process in (ended.pid, os.getppid()):
        leftover = tmp_path / f".writing-00000003-{process}"
        leftover.mkdir()
        (leftover / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 4)
    assert names(tmp_path) == [f".writing-00000003-{os.getppid()}", "step-00000004"]


# ---- whole or not at all --------------------------------------------------------------------


@pytest.mark.parametrize("function", ["rename", "fsync"])
def test_a_failing_save_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    save(tmp_path, 1)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]
    assert_holds(tmp_path / "step-00000001", 1)


def test_an_error_of_safetensors_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is reported by safetensors' own kind of error, which is no OSError."""
    save(tmp_path, 1)

    def fail(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match=r"step-00000002 .*No space left.*earlier ones are untouched"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]


def test_everything_is_on_disk_before_the_name_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    rename, open_file = os.rename, os.open

    def watch_open(path: Path, *rest: int) -> int:
        flushed.append(Path(path).name)
        return open_file(path, *rest)

    def watch_rename(source: Path, target: Path) -> None:
        expected = {p.name for p in Path(source).iterdir()} | {Path(source).name}
        assert expected <= set(flushed)
        rename(source, target)

    monkeypatch.setattr(os, "open", watch_open)
    monkeypatch.setattr(os, "rename", watch_rename)
    save(tmp_path, 1)
    assert flushed[-1] == tmp_path.name  # and the name itself


def crash_at(event: int, folder: Path, step: int) -> bool:
    """Save in a child that dies at its `event`-th file operation; False if it lived to the end."""

    def child() -> None:
        left = itertools.count(event, -1)

        def count(name: str, arguments: tuple[object, ...]) -> None:
            if name.startswith(("open", "os.", "shutil.")) and next(left) == 0:
                os._exit(9)

        sys.addaudithook(count)
        save(folder, step, keep=1)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode == 9


def crash_everywhere(folder: Path, before: int, step: int) -> int:
    """Die at every file operation of a save in turn; each time the newest checkpoint is sound."""
    for event in itertools.count():
        shutil.rmtree(folder, ignore_errors=True)
        save(folder, before)
        crashed = crash_at(event, folder, step)
        loaded, complaints = load_newest(folder)
        assert loaded is not None, f"nothing is left after a crash at file operation {event}"
        assert complaints == []
        assert_content(loaded.tensors, loaded.state, reached(loaded.path))
        if not crashed:
            assert loaded.path.name == f"step-{step:08d}"
            return event
    raise AssertionError


def test_a_crash_at_any_file_operation_leaves_a_sound_checkpoint(tmp_path: Path) -> None:
    assert crash_everywhere(tmp_path / "run", 1, 2) > 20


def test_a_crash_while_a_step_is_saved_again_leaves_a_sound_checkpoint(tmp_path: Path) -> None:
    """A run that is told to stop right after a checkpoint saves the same step again."""
    crash_everywhere(tmp_path / "run", 1, 1)


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    damage(save(tmp_path, 1) / "model.safetensors")
    assert_holds(save(tmp_path, 1), 1)
    assert names(tmp_path) == ["step-00000001"]


# ---- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_a_damaged_checkpoint_is_passed_over_with_a_complaint(
    tmp_path: Path, file: str, how: str
) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    if how == "bit":
        damage(newer / file)
    elif how == "cut":
        (newer / file).write_bytes((newer / file).read_bytes()[:-1])
    else:
        (newer / file).unlink()
    loaded, complaints = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.path == older
    assert_content(loaded.tensors, loaded.state, 1)
    assert len(complaints) == 1
    assert str(newer / file) in complaints[0]
    with pytest.raises(CheckpointError, match="missing or damaged"):
        load_checkpoint(newer)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"format_version": 1}'])
def test_an_unreadable_manifest_is_passed_over(tmp_path: Path, text: str | None) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    manifest = newer / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    loaded, complaints = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.path == older
    assert "no readable manifest.json" in complaints[0]


def test_a_newer_format_is_neither_passed_over_nor_replaced(tmp_path: Path) -> None:
    """An older version must not destroy the newest state of a run."""
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    manifest = json.loads((path / "manifest.json").read_text())
    newer = FORMAT_VERSION + 1
    (path / "manifest.json").write_text(json.dumps({**manifest, "format_version": newer}))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    message = rf"step-00000002 has format {newer}, .*up to {FORMAT_VERSION} .*upgrade it"
    for attempt in (
        lambda: load_checkpoint(path),
        lambda: load_newest(tmp_path),
        lambda: save(tmp_path, 2),
    ):
        with pytest.raises(NewerFormatError, match=message):
            attempt()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": "1"},
        {"format_version": None},
        {"format_version": True, "sha256": {"state.json": 3}},
        {"format_version": 0},
        {"sha256": []},
        {"sha256": {}},
        {"sha256": "state.json"},
        {"sha256": {"state.json": []}},
        {"sha256": {"../step-00000001/state.json": "0"}},
    ],
)
def test_a_manifest_of_another_form_is_passed_over(tmp_path: Path, changes: dict) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps({**manifest, **changes}))
    loaded, complaints = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.path == older
    assert len(complaints) == 1
    assert str(newer) in complaints[0]


def test_only_what_the_manifest_names_is_loaded(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    shutil.copy(path / "ema.safetensors", path / "other.safetensors")
    assert newest(tmp_path).tensors.keys() == {"model", "ema"}


def test_a_file_in_the_place_of_a_checkpoint_is_passed_over_and_replaced(tmp_path: Path) -> None:
    older = save(tmp_path, 1)
    (tmp_path / "step-00000002").write_bytes(b"no folder")
    loaded, complaints = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.path == older
    assert "step-00000002 has no readable manifest.json" in complaints[0]
    assert_holds(save(tmp_path, 2), 2)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_newer_checkpoint_does_not_push_out_what_is_sound(
    tmp_path: Path, keep: int
) -> None:
    """After falling back to step 1 the run saves step 2, while a damaged step 3 is still there."""
    save(tmp_path, 1, keep=keep + 1)
    for step in range(3, 3 + keep):
        damage(save(tmp_path, step, keep=9) / "model.safetensors")
    save(tmp_path, 2, keep=keep)
    loaded, _ = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.path == tmp_path / "step-00000002"


# ---- kills ----------------------------------------------------------------------------------


LARGE = {"filler": {"x": torch.zeros(1_000_000)}}  # writing it takes a while


def save_for_ever(folder: Path, first: int) -> None:
    for step in itertools.count(first):
        save_checkpoint(folder, step, content(step) | LARGE, {"seconds": 1.5 * step}, keep=1)


def test_kills_at_any_moment_leave_a_sound_checkpoint(tmp_path: Path) -> None:
    """SIGKILL fifteen times: even with keep = 1 the newest one loads and no progress is lost."""
    moments, step = random.Random(0), 1
    save(tmp_path, step)
    started = time.monotonic()
    save_checkpoint(tmp_path / "clock", 1, content(1) | LARGE, {}, keep=1)
    longest = max(0.12, 6.0 * (time.monotonic() - started))
    context = multiprocessing.get_context("fork")
    for _ in range(15):
        process = context.Process(target=save_for_ever, args=(tmp_path, step + 1))
        process.start()
        process.join(timeout=moments.uniform(0.0, longest))
        assert process.exitcode is None
        process.kill()
        process.join()
        loaded = newest(tmp_path)
        assert_content(loaded.tensors, loaded.state, reached(loaded.path))
        assert reached(loaded.path) >= step
        step = reached(loaded.path)
    assert step > 1
    save(tmp_path, step + 1)
    assert not list(tmp_path.glob(".writing-*"))


# ---- optimizers -----------------------------------------------------------------------------


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_optimizer_state_goes_through_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    models, optimizers = [], []
    for _ in range(2):
        models.append(nn.Linear(3, 2))
        optimizers.append(torch.optim.AdamW(models[-1].parameters(), fused=True))
    trained(models[0], optimizers[0], range(5))
    named = [{p: f"net.{n}" for n, p in model.named_parameters()} for model in models]
    saved = optimizer_tensors(optimizers[0], named[0])
    assert {key.split("|")[1] for key in saved} == {"step", "exp_avg", "exp_avg_sq"}
    path = save_checkpoint(tmp_path, 5, {"adamw": saved}, {}, keep=1)
    models[1].load_state_dict(models[0].state_dict())
    restore_optimizer(optimizers[1], named[1], load_checkpoint(path).tensors["adamw"])
    for model, optimizer in zip(models, optimizers, strict=True):
        trained(model, optimizer, range(5, 9))
    assert torch.equal(models[0].weight, models[1].weight)
    assert torch.equal(models[0].bias, models[1].bias)

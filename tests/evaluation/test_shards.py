"""Shards: what is there is kept, what is not or is damaged is made, by one process or several."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from openunite.evaluation import shards
from openunite.evaluation.shards import ProcessGroup, Shards, identity


class Maker:
    """Rows that say where they are; counts what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[range] = []

    def __call__(self, positions: range) -> dict[str, Tensor]:
        self.asked.append(positions)
        return {"square": torch.tensor([i * i for i in positions])}


def squares(shards: Shards) -> list[int]:
    return torch.cat([shard["square"] for shard in shards.read()]).tolist()


def test_all_positions_in_order_and_nothing_twice(tmp_path: Path) -> None:
    maker, shards = Maker(), Shards(tmp_path / "work", 10, 4)
    assert len(shards) == 3
    assert squares(shards.make(maker, ProcessGroup(), "squares")) == [i * i for i in range(10)]
    assert maker.asked == [range(4), range(4, 8), range(8, 10)]
    shards.make(maker, ProcessGroup(), "squares")
    assert len(maker.asked) == 3


def test_a_killed_job_goes_on(tmp_path: Path) -> None:
    def killed(positions: range) -> dict[str, Tensor]:
        if positions.start == 4:
            raise KeyboardInterrupt
        return Maker()(positions)

    shards = Shards(tmp_path, 10, 4)
    with pytest.raises(KeyboardInterrupt):
        shards.make(killed, ProcessGroup(), "squares")
    maker = Maker()
    assert squares(shards.make(maker, ProcessGroup(), "squares")) == [i * i for i in range(10)]
    assert maker.asked == [range(4, 8), range(8, 10)]


def test_damaged_and_short_shards_are_made_anew(tmp_path: Path) -> None:
    shards = Shards(tmp_path, 8, 4).make(Maker(), ProcessGroup(), "squares")
    first = shards.path(0)
    first.write_bytes(first.read_bytes()[:20])
    maker = Maker()
    longer = Shards(tmp_path, 11, 4)
    assert squares(longer.make(maker, ProcessGroup(), "squares")) == [i * i for i in range(11)]
    assert maker.asked == [range(4), range(8, 11)]
    Shards(tmp_path, 10, 4).make(maker, ProcessGroup(), "squares")
    assert maker.asked[2:] == [range(8, 10)]


def test_processes_share_the_work(tmp_path: Path) -> None:
    waits: list[int] = []
    makers = [Maker(), Maker()]
    shards = Shards(tmp_path, 20, 4)
    for rank, maker in enumerate(makers):
        shards.make(maker, ProcessGroup(rank, 2, lambda: waits.append(1)), "squares")
    assert squares(shards) == [i * i for i in range(20)]
    assert [r.start for r in makers[0].asked] == [0, 8, 16]
    assert [r.start for r in makers[1].asked] == [4, 12]
    assert len(waits) == 2


def test_removal_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "work", 5, 4).make(Maker(), ProcessGroup(), "squares")
    (tmp_path / "work" / "other.txt").write_text("mine")
    shards.remove()
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["other.txt"]
    Shards(tmp_path / "gone", 5, 4).make(Maker(), ProcessGroup(), "squares").remove()
    assert not (tmp_path / "gone").exists()


def test_identity_follows_every_setting() -> None:
    settings = {"model": "abc", "sampling": {"steps": 5, "solver": None}}
    assert identity(settings) == identity(dict(reversed(settings.items())))
    assert identity(settings) != identity({**settings, "sampling": {"steps": 6, "solver": None}})


def test_a_folder_that_vanishes_before_a_shard_is_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "work" / "000001.safetensors"
    write, times = shards.save_file, []

    def overtaken(*given: Any) -> None:
        if not times:
            path.parent.rmdir()  # another evaluation has done all of the work
        times.append(1)
        write(*given)

    monkeypatch.setattr(shards, "save_file", overtaken)
    shards.write_tensors(path, Maker()(range(4, 8)))
    assert len(times) == 2
    assert load_file(path)["square"].tolist() == [16, 25, 36, 49]


def test_a_shard_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        shards.write_tensors(tmp_path / "000001.safetensors", Maker()(range(4)))
    assert list(tmp_path.iterdir()) == []

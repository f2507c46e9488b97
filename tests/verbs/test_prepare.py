"""`prepare` as a user types it, and `train` on what it wrote."""

import json
from pathlib import Path

import pytest
from tests.verbs.test_commands import TINY, photos

from openunite.cli import main


def losses(run: Path) -> list[float]:
    rows = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


def test_training_on_the_copy_is_training_on_the_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, copy = photos(tmp_path / "photos"), tmp_path / "photos24"
    command = ["prepare", str(source), str(copy), "--size", "24"]
    with pytest.raises(SystemExit):
        main(command)
    assert "broken.jpg" in capsys.readouterr().err
    main([*command, "--max-bad-share", "0.1"])
    assert "24 images of 24 x 24 pixels, 1 skipped; 0 shards written, 1 verified" in (
        capsys.readouterr().out
    )
    for data in (source, copy):
        main(
            ["train", "images", "--data", str(data), "--image-size", "24", "--patch-size", "12"]
            + ["--max-bad-share", "0.1", "--output", str(tmp_path / f"run-{data.name}"), *TINY]
        )
    assert losses(tmp_path / "run-photos") == losses(tmp_path / "run-photos24")


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photos(tmp_path / "photos")
    (source / "photo.HEIC").write_bytes(b"x")
    main(["prepare", str(source), str(tmp_path / "copy"), "--size", "8", "--max-bad-share", "0.1"])
    told = "note: 1 .heic file left out (photo.HEIC): convert to PNG or JPEG"
    assert told in capsys.readouterr().err

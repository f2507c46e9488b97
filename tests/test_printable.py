"""Names from files cannot speak to a terminal."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openunite.cli import main
from openunite.texts import printable

EVIL = "\x1b]0;owned\x07\x9b31m\u202egpj"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat/été 1.png", "cat/été 1.png"),
        ("猫\u3000と犬.png", "猫\u3000と犬.png"),
        (r"C:\photos\x1b.png", r"C:\photos\x1b.png"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\x7f", r"a\nb\tc\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\udcff", r"\udcff"),  # a byte that is not UTF-8, as Python has it in a name
    ],
)
def test_control_characters_are_written_out_and_letters_stay(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_characters_to_keep_stay() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_a_hostile_file_name_is_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(photos / f"{i}.png")
    (photos / f"{EVIL}.png").write_bytes(b"no picture")
    output = tmp_path / "tars"
    arguments = [str(output), "--size", "16", "--max-bad-share", "0.5"]
    main(["prepare", str(photos), *arguments])
    error = capsys.readouterr().err
    assert r"skipped \x1b]0;owned\x07\x9b31m\u202egpj.png: " in error
    assert not set(error) & set("\x1b\x07\x9b\u202e")


def test_a_hostile_name_in_an_error_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", f"runs/{EVIL}"])
    error = capsys.readouterr().err
    assert r"runs/\x1b]0;owned\x07" in error
    assert "\x1b" not in error

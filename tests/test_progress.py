"""Lines and bars appear where somebody asked for them, and nowhere else."""

import sys
import threading

import pytest

from openunite.progress import bar, is_shown, say, showing


def test_nothing_is_printed_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    say("a line")
    say("an error", err=True)
    assert list(bar(range(3), "work")) == [0, 1, 2]
    assert not is_shown()
    assert capfd.readouterr() == ("", "")


def test_inside_showing_lines_and_bars_appear(capsys: pytest.CaptureFixture[str]) -> None:
    with showing():
        say("a", 1, end="!\n")
        say("an error", err=True)
        assert list(bar(range(3), "work")) == [0, 1, 2]
    printed = capsys.readouterr()
    assert printed.out == "a 1!\n"
    assert printed.err.startswith("an error\n")
    assert "work: 100%" in printed.err
    say("over")
    assert capsys.readouterr().out == ""


def test_showing_can_be_nested_and_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with showing():
        with showing(False):
            say("inner")
        say("outer")
        with pytest.raises(ValueError, match="stop"), showing(False):
            raise ValueError("stop")
        assert is_shown()
    assert not is_shown()
    assert capsys.readouterr().out == "outer\n"


def test_other_threads_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with showing():
        thread = threading.Thread(target=say, args=("from a thread",))
        thread.start()
        thread.join()
    assert capsys.readouterr().out == ""


def test_a_bar_can_be_disabled_where_lines_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with showing():
        assert list(bar(range(3), "work", disable=True)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_bar_counts_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(), bar(desc="steps", total=4) as shown:
        shown.update(4)
    assert "4/4" in capsys.readouterr().err
    assert "tqdm.notebook" not in sys.modules

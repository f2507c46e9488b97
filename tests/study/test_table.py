"""The ablation table on fixed numbers: verdicts, means, what is left out, what is drawn."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from openunite.study.table import Row, add, draw, markdown, summary, verdict


def row(name: str, *values: float, paper: tuple[int, int] = (1, -1), collapsed: int = 0) -> Row:
    metrics = {"fd_samples": list(values), "fd_recon": list(values)} if values else {}
    return Row(name, "an axis", "3.0 / 2.0", paper, metrics, collapsed, "600")


DEFAULT = row("default", 1.0, 1.1, 0.9)  # std 0.1, standard error 0.1 / sqrt(3)


def test_a_clear_difference_is_held_against_the_direction_of_the_paper() -> None:
    """Difference 1, standard error sqrt(2) 0.1 / sqrt(3) = 0.082."""
    worse = row("worse", 2.0, 2.1, 1.9)
    assert verdict(worse, DEFAULT, "fd_samples") == "holds: +1 +- 0.082"
    assert verdict(worse, DEFAULT, "fd_recon") == "does not hold: +1 +- 0.082"
    better = row("better", 0.0, 0.1, -0.1)
    assert verdict(better, DEFAULT, "fd_samples") == "does not hold: -1 +- 0.082"
    assert verdict(better, DEFAULT, "fd_recon") == "holds: -1 +- 0.082"


@pytest.mark.parametrize(("factor", "expected"), [(2.99, "undecided"), (3.01, "holds")])
def test_three_standard_errors_decide(factor: float, expected: str) -> None:
    shift = factor * 0.1 * math.sqrt(2 / 3)
    found = verdict(row("v", *(v + shift for v in (1.0, 1.1, 0.9))), DEFAULT, "fd_samples")
    assert found.startswith(f"{expected}: ")


def test_without_a_direction_the_sign_is_told() -> None:
    assert verdict(row("v", 2.0, 2.1, paper=(0, 0)), DEFAULT, "fd_samples").startswith("larger: ")
    assert verdict(row("v", 0.1, 0.2, paper=(0, 0)), DEFAULT, "fd_samples").startswith("smaller: ")


def test_collapse_is_a_result() -> None:
    assert verdict(row("v", 1.0, collapsed=2), DEFAULT, "fd_samples") == "holds: collapsed"
    assert verdict(row("v", collapsed=3), DEFAULT, "fd_recon") == "does not hold: collapsed"
    assert verdict(row("v", 2.0, 2.1, collapsed=1), DEFAULT, "fd_samples").startswith("holds: +")


def test_one_seed_decides_nothing() -> None:
    assert verdict(row("v", 9.0), DEFAULT, "fd_samples") == "undecided: too few seeds"
    assert verdict(row("v", 9.0, 9.1), row("default", 1.0), "fd_samples").startswith("undecided")


def test_the_same_run_twice_decides_nothing() -> None:
    found = verdict(row("v", 2.0, 2.0), row("default", 1.0, 1.0), "fd_samples")
    assert found == "undecided: +1 +- 0"


def test_the_table_shows_means_spreads_and_collapses() -> None:
    table = markdown([DEFAULT, row("v", 20.0, 22.0, 21.0), row("w", 2.0, collapsed=2)])
    lines = table.splitlines()
    assert lines[0] == "| variant | FD | rFD | steps | collapsed |"
    assert lines[2] == "| default | 1.00 +- 0.10 | 1.00 +- 0.10 | 600 | 0 of 3 |"
    assert lines[3] == "| v | 21.0 +- 1.0 | 21.0 +- 1.0 | 600 | 0 of 3 |"
    assert lines[4] == "| w | 2.00 | 2.00 | 600 | 2 of 3 |"
    assert "| v | an axis | 3.0 / 2.0 | holds: +20 +- 0.58 | does not hold: +20 +- 0.58 |" in lines


def test_only_known_numbers_are_added() -> None:
    new = row("v")
    for value in (1.5, 2.5):
        add(new, {"fd_samples": value, "recon_psnr_db": 20, "protocol": "text", "other": 3.0})
    assert new.metrics == {"fd_samples": [1.5, 2.5], "recon_psnr_db": [20.0, 20.0]}


def test_json_keeps_every_value_and_the_verdicts() -> None:
    default, other = json.loads(json.dumps(summary([DEFAULT, row("v", 2.0, 2.1, 1.9)])))
    assert default["metrics"]["fd_samples"] == [1.0, 1.1, 0.9]
    assert default["summary"]["fd_samples"]["std"] == pytest.approx(0.1)
    assert "verdicts" not in default
    assert other["verdicts"]["fd_samples"].startswith("holds")


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    draw([DEFAULT, row("v", 2.0, 2.1), row("w", collapsed=3)], tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 600

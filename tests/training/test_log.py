"""metrics.jsonl: JSON for everybody, and a run that goes on whatever became of it."""

import json
import math
from pathlib import Path

import pytest
import torch

from openunite.progress import showing
from openunite.training.log import MetricsLog, read_rows, spans


def row(step: int) -> bytes:
    return json.dumps({"step": step, "loss": 1.0 / step}).encode() + b"\n"


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def strict(text: str) -> object:
    """As other programs read JSON."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def test_a_number_that_is_not_finite_is_null_and_read_as_nan(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0, [])
    log.add({"step": 1, "loss": torch.tensor(math.nan), "norm": math.inf, "rate": 0.5})
    (found,) = log.flush()
    assert math.isnan(found["loss"])
    assert found["norm"] == math.inf
    assert strict(path.read_text()) == {"step": 1, "loss": None, "norm": None, "rate": 0.5}
    (read,) = read_rows(path)
    assert math.isnan(read["loss"])
    assert read["rate"] == 0.5


@pytest.mark.parametrize(
    "rubbish", [b"\xff\xfe\x00\n", b"[]\n", b"7\n", b'{"step": "3"}\n', b'{"step": true}\n', b"\n"]
)
def test_what_is_no_row_is_dropped_and_the_rest_stays(
    tmp_path: Path, rubbish: bytes, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(row(1) + row(2) + rubbish + row(3) + row(4) + b'{"step": 5, "lo')
    with showing():
        MetricsLog(path, 3, [])
    assert path.read_bytes() == row(1) + row(2) + row(3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ([1, 2, 5, 9], "the rows of 6 of 10 steps are missing (3 to 4, 6 to 8, 10)"),
        ([], "the rows of 10 of 10 steps are missing (1 to 10)"),
        (None, "the rows of 10 of 10 steps are missing (1 to 10)"),
    ],
)
def test_missing_rows_are_named_and_the_run_goes_on(
    tmp_path: Path, kept: list[int] | None, message: str, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    if kept is not None:
        path.write_bytes(b"".join(map(row, kept)))
    with showing():
        log = MetricsLog(path, 10, [])
    assert f"warning: {path} is damaged: {message}" in capsys.readouterr().err
    log.add({"step": 11, "loss": 1.0})
    log.flush()
    assert steps(path) == [*(kept or []), 11]


def test_rows_of_two_writers_are_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(row(1) + row(3) + row(2) + row(2) + row(4))
    MetricsLog(path, 4, [])
    assert steps(path) == [1, 2, 3, 4]


def test_spans_of_many_parts_are_cut() -> None:
    assert spans([1, 3, 4, 5, 9]) == "1, 3 to 5, 9"
    assert spans(range(1, 100, 2), most=2) == "1, 3, ..."

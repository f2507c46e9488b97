"""`info --gpus`: numbers that follow from each other, and advice that is true when taken."""

from dataclasses import replace

import pytest

from openunite.catalog import get_recipe
from openunite.cli import main
from openunite.planning.memory import memory
from openunite.planning.plan import advice, plan, samples_at_once
from openunite.planning.scaling import DEVICES

XL = get_recipe("imagenet256_xl")()


def test_the_command_prints_cost_memory_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", "--recipe", "imagenet256_b", "--gpus", "8", "--batch-size", "512"])
    printed = capsys.readouterr().out
    for expected in ("8 x h200", "batch 512", "217.6 M", "2,668 GFLOP", "GPU-hours", "fits: "):
        assert expected in printed


def test_a_plan_for_another_size_and_other_draws(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--size", "L", "--flow-draws", "3", "--batch-size", "512"]
    main(["info", "imagenet256_b", "--gpus", "8", *asked])
    changed = capsys.readouterr().out
    config = get_recipe("imagenet256_l")()
    objective = replace(config.objective, flow_draws=3)
    config = replace(config, objective=objective, batch_size=512, steps=240 * 1251)
    expected = plan(config, 8, "h200", 0.4).splitlines()
    assert changed.splitlines()[1:] == expected[1:]
    assert "545.5 M: 24 x 1024, decoder 12 x 768" in expected[1]
    assert "3 draws of" in expected[2]


@pytest.mark.parametrize(
    ("draws", "together", "words"),
    [(14, 1, "one flow draw is"), (14, 4, "4 flow draws are"), (3, 8, "3 flow draws are")],
)
def test_the_plan_says_how_many_draws_are_in_memory(draws: int, together: int, words: str) -> None:
    config = get_recipe("fashion")()
    objective = replace(config.objective, flow_draws=draws, draws_per_pass=together)
    printed = plan(replace(config, objective=objective), 1, "h200", 0.4)
    assert f"{words} in memory at a time" in printed
    assert ("whatever k" in printed) == (together <= draws)


def test_without_the_stop_gradient_the_plan_counts_every_draw() -> None:
    config = get_recipe("fashion")()
    objective = replace(config.objective, flow_draws=14, stop_gradient=False)
    printed = plan(replace(config, objective=objective), 1, "h200", 0.4)
    assert "GB per GPU: 14 flow draws are in memory at a time" in printed


def test_crystals_are_planned_before_their_elements_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["info", "mp20_s", "--gpus", "1"])
    assert "GPU-hours" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["info"], "name one SOURCE or --recipe"),
        (["info", "nowhere", "--gpus", "8"], "no recipe"),
        (["info", "imagenet256_b", "--gpus", "3"], "multiple of 3 GPUs"),
        (["info", "imagenet256_b", "--gpus", "8", "--mfu", "40"], "MFU in"),
        (["info", "molecules", "--gpus", "8"], "follow from its data"),
        (["info", "imagenet256_b", "--gpus", "8", "--size", "huge"], "unknown size 'huge'"),
        (["info", "imagenet256_b", "--gpus", "8", "--flow-draws", "0"], "at least 1, got 0"),
        (["info", "imagenet256_b", "--size", "L"], "add --gpus N"),
    ],
)
def test_mistakes(arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert reason in capsys.readouterr().err


def test_advice_fits_when_taken() -> None:
    gpus, small = 8, DEVICES["4090"]
    first, second = advice(XL, gpus, small)
    assert first.startswith("does not fit")
    assert "--sharding full --set micro_batch_size=8:" in second
    changed = replace(XL, micro_batch_size=8, sharding="full")
    assert memory(changed, samples_at_once(changed, gpus), gpus).peak < small.memory
    assert next(advice(changed, gpus, small)).startswith("fits")


def test_alone_nothing_can_be_shared() -> None:
    _, second = advice(XL, 1, DEVICES["4090"])
    assert "a smaller --size" in second
    assert "MFU 100.0%" in plan(get_recipe("fashion")(), 1, "a100", 1.0)

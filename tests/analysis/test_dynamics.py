"""The course of training: phases of a made-up log, of a real one, and of a collapsed one."""

import json
from pathlib import Path

import pytest

from openunite.analysis.dynamics import training_dynamics

FIXTURE = Path(__file__).parents[1] / "fixtures" / "format_1" / "run" / "metrics.jsonl"


def log(steps: int = 100, spread: float = 0.5) -> list[dict[str, float]]:
    """Warm-up to step 10, flow weight full from step 40, rate below half from step 70."""
    return [
        {
            "step": step,
            "loss_reconstruction": 1.0 / step,
            "loss_flow": 0.1 + 0.01 * step,
            "flow_weight": min(1.0, step / 40),
            "learning_rate": step / 10 if step <= 10 else (1.0 if step < 70 else 0.4),
            "latent_spread": spread,
        }
        for step in range(1, steps + 1)
    ]


def test_phases_follow_the_schedules() -> None:
    found = training_dynamics(log())
    assert [(p.name, p.first, p.last) for p in found.phases] == [
        ("warm-up", 1, 9),
        ("reconstruction leads", 10, 39),
        ("both", 40, 69),
        ("settling", 70, 100),
    ]
    last = found.phases[-1]
    assert last.flow == pytest.approx(0.1 + 0.01 * 99)  # steps 98 to 100
    assert last.reconstruction == pytest.approx((1 / 98 + 1 / 99 + 1 / 100) / 3)
    assert found.verdict == "healthy"


def test_a_run_without_ramp_or_decay_has_one_phase() -> None:
    rows = [{"step": i, "loss_reconstruction": 1.0, "loss_flow": 0.5} for i in range(1, 6)]
    assert [phase.name for phase in training_dynamics(rows).phases] == ["both"]


def test_no_spread_is_collapse() -> None:
    assert training_dynamics(log(spread=0.01)).numbers()["verdict"] == "collapsed"


def test_a_log_that_training_wrote() -> None:
    rows = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
    found = training_dynamics(rows)
    assert found.steps == tuple(range(1, len(rows) + 1))
    assert found.phases[0].first == 1
    assert found.phases[-1].last == len(rows)
    assert len(found.figure().axes) == 2


def test_a_log_without_losses_is_refused() -> None:
    with pytest.raises(ValueError, match="expected both losses"):
        training_dynamics([{"step": 1}])

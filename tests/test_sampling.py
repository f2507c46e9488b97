"""Settings of sampling: what they refuse, how calls change them, and the table of solvers."""

import math
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from torch import Tensor

from openunite import registry
from openunite.flow.solvers import solve
from openunite.sampling import SOLVERS, Sampling, Solver


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"solver": "hoin"}, "got 'hoin'; the nearest is 'heun'"),
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number from 1"),
        ({"num_inference_steps": True}, "num_inference_steps must be a whole number from 1"),
        ({"guidance_scale": math.nan}, "guidance_scale must be a number"),
        ({"guidance_scale": math.inf}, "guidance_scale must be a number"),
        ({"time_shift": 0.0}, "time_shift must be a number"),
        ({"guidance_interval": (0.5, 0.2)}, "guidance_interval must satisfy"),
        ({"options": {"eta": 0.5}}, "solver 'multistep' knows no option 'eta'; it has no options"),
        ({"solver": "sde", "options": {"etta": 1.0}}, "its options are eta, temperature"),
        ({"solver": "sde", "options": {"eta": 2.0}}, "eta must be a number from 0 to 1, got 2.0"),
    ],
)
def test_what_no_sampler_can_do_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**values)


def test_a_call_changes_what_it_names_and_keeps_the_rest() -> None:
    sampling = Sampling("sde", 20, 3.0, 1.7, options={"eta": 1.0})
    assert sampling.change(guidance_scale=None) == sampling
    assert sampling.change(eta=0.5, num_inference_steps=4) == Sampling(
        "sde", 4, 3.0, 1.7, options={"eta": 0.5}
    )
    assert sampling.change(solver="heun") == Sampling("heun", 20, 3.0, 1.7)
    assert sampling.change(guidance_interval=[0.2, 0.9]).guidance_interval == (0.2, 0.9)
    with pytest.raises(ValueError, match=r"'guidance_scal', .*the nearest is guidance_scale"):
        sampling.change(guidance_scal=2.0)
    with pytest.raises(ValueError, match="unknown sampling setting 'eta'"):
        sampling.change(solver="euler", eta=1.0)


def test_a_default_that_is_written_out_changes_nothing() -> None:
    assert Sampling("sde", options={"eta": 0.0, "temperature": 1.0}) == Sampling("sde")
    assert Sampling("sde").option("temperature") == 1.0


def test_plain_values_and_back() -> None:
    sampling = Sampling("sde", 20, 3.0, 1.7, (0.2, 0.8), {"eta": 1.0})
    assert sampling.to_dict()["guidance_interval"] == [0.2, 0.8]
    assert Sampling.from_dict(sampling.to_dict()) == sampling


def test_format_1_had_options_of_the_sde_for_every_solver() -> None:
    old = {"solver": "heun", "num_inference_steps": 9, "eta": 0.0, "temperature": 1.0}
    assert Sampling.from_dict(old) == Sampling("heun", 9)
    old = {"solver": "sde", "num_inference_steps": 9, "eta": 1.0, "temperature": 0.8}
    assert Sampling.from_dict(old).options == {"eta": 1.0, "temperature": 0.8}


def test_the_table_says_what_a_solver_costs() -> None:
    cost = {name: SOLVERS.get(name).cost(10) for name in SOLVERS.names()}
    assert cost == {"euler": 10, "heun": 19, "multistep": 10, "sde": 10, "dopri5": 90}
    assert [name for name in SOLVERS.names() if SOLVERS.get(name).adaptive] == ["dopri5"]


def halves(denoiser: Any, z: Tensor, grid: list[float], **_: Any) -> Tensor:
    """A solver of another package: half of the prediction, whatever the grid."""
    return 0.5 * denoiser(z, z.new_zeros(len(z)))


HALVES = Solver(f"{__name__}:halves", lambda n: 1, "for a test")


def test_a_solver_of_another_package_is_a_name_like_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EntryPoint("halves", f"{__name__}:HALVES", SOLVERS.group)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    found = solve(lambda z, t: 2.0 * z, torch.ones(2, 3, 4), Sampling("halves", 3))
    assert torch.equal(found, torch.ones(2, 3, 4))

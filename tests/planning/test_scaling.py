"""Step times by hand, and what they have to obey."""

from dataclasses import replace

import pytest

from openunite.catalog import get_recipe
from openunite.planning.scaling import DEVICES, Network, muon_flops, step_time

B = get_recipe("imagenet256_b")()
H200 = DEVICES["h200"]


def test_one_device_has_nobody_to_talk_to() -> None:
    """The release: 102.7 images/s per H200 with k = 3 are 10.5 % of the peak."""
    three = replace(B, objective=replace(B.objective, flow_draws=3))
    alone = step_time(three, H200, 1, mfu=0.10546)
    assert three.batch_size / alone.compute == pytest.approx(102.7, rel=1e-3)
    assert alone.communication == 0.0
    assert muon_flops(B) == pytest.approx(3.79e12, rel=0.01)


def test_a_ring_by_hand() -> None:
    network = Network(per_node=2, between=10.0, usable=0.5, latency=1.0)
    device = replace(H200, link=100.0)
    assert network.all_reduce(50.0, device, 2) == pytest.approx(2 * 1 / 2 * 50 / 50 + 2)
    assert network.all_reduce(50.0, device, 4) == pytest.approx(2 * 3 / 4 * 50 / 5 + 6)


def test_what_scaling_obeys() -> None:
    steps = [step_time(B, H200, world, 0.4) for world in (1, 8, 64, 512)]
    shares = [step.communication / step.total for step in steps]
    assert shares == sorted(shares)
    totals = [step.total for step in steps]
    assert totals == sorted(totals, reverse=True)
    full = step_time(replace(B, sharding="full"), H200, 8, 0.4)
    assert full.communication > steps[1].communication
    assert full.orthogonalization == pytest.approx(steps[1].orthogonalization / 8)

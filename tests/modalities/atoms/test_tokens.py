"""Coordinates keep their digits on the way in and out, whatever the precision of the rest."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.modalities.crystal.test_tokens import crystals
from tests.modalities.joint.test_tokens import stored
from tests.modalities.molecule.test_tokens import molecules
from torch import Tensor

from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.modality import Modality, get_modality

Case = tuple[Modality, Batch]
STORED: dict[str, Callable[..., Any]] = {
    "molecule": molecules,
    "crystal": crystals,
    "joint": stored,
}
WIDTH = 32


@pytest.fixture(params=list(STORED))
def case(request: pytest.FixtureRequest) -> Case:
    settings = {"elements": [1, 6, 8], "max_atoms": 6}
    return get_modality(request.param, settings), STORED[request.param](settings, 4)


def both(call: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """In float32, and under bfloat16 autocast."""
    exact = call()
    with torch.autocast("cpu", torch.bfloat16):
        return exact, call()


def test_under_autocast_both_ends_are_those_of_float32(case: Case) -> None:
    modality, batch = case
    torch.manual_seed(0)
    embedder, head = modality.embedder(WIDTH), modality.head(WIDTH)
    states = torch.randn(4, 6, WIDTH)
    for exact, found in (both(lambda: embedder(batch.data)), both(lambda: head(states))):
        assert found.dtype == torch.float32
        assert torch.equal(found, exact)
    rounded = head(states).bfloat16().float()
    assert not torch.equal(rounded, head(states))  # bfloat16 would have been seen


def test_under_autocast_augmentation_rounds_nothing(case: Case) -> None:
    modality, batch = case
    exact, found = both(lambda: modality.prepare(batch, SlotRandom(0, 0, torch.arange(4))).data)
    assert not torch.equal(exact, batch.data)
    assert torch.equal(found, exact)


def test_weights_in_bfloat16_still_give_float32(case: Case) -> None:
    modality, _ = case
    head = modality.head(WIDTH).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(torch.randn(1, 6, WIDTH))
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())

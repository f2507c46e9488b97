"""Molecules and crystals under one model: the contract, and that each kind is what it is alone."""

from typing import ClassVar

import pytest
import torch
from tests.conftest import rows_of
from tests.modalities.contract import ModalityContract, Settings
from torch import Tensor

from openunite.batch import CLASS, Batch, Given
from openunite.flow.random import SlotRandom
from openunite.modalities.joint.tokens import is_crystal
from openunite.modality import get_modality

SETTINGS = {"elements": [1, 8, 22], "max_atoms": 6}


def stored(settings: Settings, count: int) -> Batch:
    """Molecules at even places, crystals at odd ones, padded."""
    generator = torch.Generator().manual_seed(0)
    size = settings["max_atoms"]
    numbers = torch.randint(2, size + 1, (count, 1), generator=generator)
    numbers[0] = size
    mask = torch.arange(size) < numbers
    kinds = torch.randint(len(settings["elements"]), (count, size, 1), generator=generator)
    periodic = (torch.arange(count) % 2 == 1)[:, None, None]
    places = torch.rand(count, size, 3, generator=generator)
    places = torch.where(periodic, places, 4.0 * places - 2.0)
    lattice = torch.cat(
        [
            3.0 + 5.0 * torch.rand(count, 1, 3, generator=generator),
            60.0 + 60.0 * torch.rand(count, 1, 3, generator=generator),
        ],
        dim=2,
    ).expand(-1, size, -1)
    data = torch.cat([kinds, places, torch.where(periodic, lattice, 0.0)], dim=2)
    classes = {CLASS: Given.of_all(periodic[:, 0, 0].long())}
    return Batch(data * mask[..., None], torch.arange(count), mask, classes)


class TestJointContract(ModalityContract):
    modality = "joint"
    any_registers = False
    cases: ClassVar[dict[str, Settings]] = {"both": SETTINGS}

    def stored(self, settings: Settings, count: int) -> Batch:
        return stored(settings, count)


def rows(batch: Batch, chosen: Tensor, width: int) -> Batch:
    part = rows_of(batch, chosen)
    return part.with_data(part.data[..., :width])


def test_the_lattice_tells_the_kinds_apart() -> None:
    batch = stored(SETTINGS, 6)
    assert is_crystal(batch.data).tolist() == [False, True] * 3


def test_each_kind_has_its_own_losses_and_moves() -> None:
    batch, modality = stored(SETTINGS, 8), get_modality("joint", SETTINGS)
    crystals = is_crystal(batch.data)
    output = torch.randn(8, 6, 3 + 6 + 12 + 1, generator=torch.Generator().manual_seed(1))
    as_molecule, as_crystal = output[..., :9], torch.cat([output[..., :3], output[..., 9:21]], -1)
    found = modality.reconstruction_losses(output, batch)
    alone = {
        False: get_modality("molecule", SETTINGS).reconstruction_losses(
            as_molecule[~crystals], rows(batch, ~crystals, 4)
        ),
        True: get_modality("crystal", SETTINGS).reconstruction_losses(
            as_crystal[crystals], rows(batch, crystals, 10)
        ),
    }
    assert set(found) == {*alone[False], *alone[True], "kind"}
    for name in set(found) - {"kind", "elements"}:
        one = alone[name in alone[True]][name]
        assert float(found[name]) == pytest.approx(0.5 * float(one), rel=1e-5)
    both = 0.5 * (alone[False]["elements"] + alone[True]["elements"])
    assert float(found["elements"]) == pytest.approx(float(both), rel=1e-5)

    random = SlotRandom(0, 0, torch.arange(8))
    moved = modality.prepare(batch, random).data
    turned = (
        get_modality("molecule", SETTINGS).prepare(rows(batch, crystals | True, 4), random).data
    )
    shifted = get_modality("crystal", SETTINGS).prepare(batch, random).data
    assert torch.equal(moved[crystals], shifted[crystals])
    assert torch.equal(moved[~crystals][..., :4], turned[~crystals])
    assert not moved[~crystals][..., 4:].any()


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown joint setting rotate"):
        get_modality("joint", {"elements": [1], "max_atoms": 3, "rotate": False})

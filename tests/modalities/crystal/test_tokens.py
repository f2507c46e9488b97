"""Crystals as tokens: the contract, shifts, the nearest image, the lattice."""

from typing import ClassVar

import pytest
import torch
from tests.modalities.contract import ModalityContract, Settings

from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.modalities.crystal.tokens import (
    ANGLES,
    FRACTIONAL,
    LENGTHS,
    circle,
    fractional_of,
)
from openunite.modality import get_modality

OXIDES = {"elements": [8, 22, 26], "max_atoms": 6}


def crystals(settings: Settings, count: int) -> Batch:
    """Random crystals of 1 to max_atoms atoms, packed and padded."""
    generator = torch.Generator().manual_seed(0)
    size = settings["max_atoms"]
    numbers = torch.randint(1, size + 1, (count, 1), generator=generator)
    numbers[0] = size
    mask = torch.arange(size) < numbers
    kinds = torch.randint(len(settings["elements"]), (count, size, 1), generator=generator)
    places = torch.rand(count, size, 3, generator=generator)
    lengths = 3.0 + 5.0 * torch.rand(count, 1, 3, generator=generator)
    angles = 60.0 + 60.0 * torch.rand(count, 1, 3, generator=generator)
    lattice = torch.cat([lengths, angles], dim=2).expand(-1, size, -1)
    data = torch.cat([kinds, places, lattice], dim=2) * mask[..., None]
    return Batch(data, torch.arange(count), mask)


class TestCrystalContract(ModalityContract):
    modality = "crystal"
    any_registers = False
    cases: ClassVar[dict[str, Settings]] = {
        "oxides": OXIDES,
        "unmoved": {"elements": [14], "max_atoms": 3, "shift": False},
    }

    def stored(self, settings: Settings, count: int) -> Batch:
        return crystals(settings, count)


def perfect(batch: Batch, shift: float = 0.0) -> torch.Tensor:
    """What the head should say of a batch, fractional coordinates off by `shift`."""
    data, count = batch.data, batch.valid.sum(dim=1)[:, None, None]
    logits = torch.nn.functional.one_hot(data[..., 0].long(), 3) * 30.0
    lengths, angles = data[..., LENGTHS] / count ** (1 / 3), data[..., ANGLES] / 90.0
    return torch.cat([logits, circle(data[..., FRACTIONAL] + shift), lengths, angles], dim=2)


def test_the_loss_of_the_truth_is_its_doubt_about_elements_alone() -> None:
    modality, batch = get_modality("crystal", OXIDES), crystals(OXIDES, 4)
    losses = modality.reconstruction_losses(perfect(batch), batch)
    assert set(losses) == {"elements", "fractional", "lengths", "angles"}
    assert all(float(loss) < 1e-5 for loss in losses.values())


def test_a_coordinate_counts_to_its_nearest_image() -> None:
    modality, batch = get_modality("crystal", OXIDES), crystals(OXIDES, 4)

    def loss(shift: float) -> float:
        return float(modality.reconstruction_losses(perfect(batch, shift), batch)["fractional"])

    assert loss(1.0) == pytest.approx(0.0, abs=1e-5)
    assert loss(0.1) == pytest.approx(loss(-2.9), abs=1e-4)
    assert 0.0 < loss(0.1) < loss(0.2) < loss(0.5)


def test_points_give_back_the_coordinates_whatever_their_length() -> None:
    places = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        fractional_of(0.3 * circle(places + 2.0)), places, atol=1e-5, rtol=0.0
    )


def test_the_output_gives_back_the_lattice() -> None:
    modality, batch = get_modality("crystal", OXIDES), crystals(OXIDES, 4)
    _, _, lengths, angles = modality.split(perfect(batch), batch.valid)
    torch.testing.assert_close(lengths, batch.data[:, 0, LENGTHS])
    torch.testing.assert_close(angles, batch.data[:, 0, ANGLES])


def test_training_crystals_are_moved_as_a_whole() -> None:
    modality, batch = get_modality("crystal", OXIDES), crystals(OXIDES, 4)
    moved = modality.prepare(batch, SlotRandom(0, 0, torch.arange(4))).data
    others = [0, *range(4, 10)]
    assert torch.equal(moved[..., others], batch.data[..., others])
    shift = (moved - batch.data)[..., FRACTIONAL][0] % 1.0
    torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-5, rtol=0.0)
    assert float(moved[..., FRACTIONAL].max()) < 1.0
    assert modality.prepare(batch, None).data is batch.data


def test_tokens_are_periodic() -> None:
    embedder = get_modality("crystal", OXIDES).embedder(16)
    data = crystals(OXIDES, 4).data
    image = data.clone()
    image[..., FRACTIONAL] += torch.tensor([1.0, -1.0, 2.0])
    torch.testing.assert_close(embedder(image), embedder(data), atol=1e-4, rtol=0.0)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="crystal settings are missing: elements"):
        get_modality("crystal", {"max_atoms": 3})
    with pytest.raises(ValueError, match="unknown crystal setting atoms"):
        get_modality("crystal", {**OXIDES, "atoms": 3})

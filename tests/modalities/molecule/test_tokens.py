"""Molecules as tokens: the contract, rotations, padding, losses."""

from typing import ClassVar

import pytest
import torch
from tests.modalities.contract import ModalityContract, Settings

from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.modalities.atoms.tokens import random_rotations
from openunite.modalities.molecule.anchors import find_anchors, vectors_from
from openunite.modalities.molecule.tokens import (
    distance_error,
    is_heavy,
    positions_and_vectors,
    stretch_error,
)
from openunite.modality import get_modality

ORGANIC = {"elements": [1, 6, 7, 8, 9], "max_atoms": 9}


def molecules(settings: Settings, count: int) -> Batch:
    """Random molecules of 2 to max_atoms atoms, packed and padded."""
    generator = torch.Generator().manual_seed(0)
    size = settings["max_atoms"]
    numbers = torch.randint(2, size + 1, (count, 1), generator=generator)
    numbers[0] = size
    mask = torch.arange(size) < numbers
    kinds = torch.randint(len(settings["elements"]), (count, size, 1), generator=generator)
    positions = torch.randn(count, size, 3, generator=generator)
    data = torch.cat([kinds, positions], dim=2) * mask[..., None]
    return Batch(data, torch.arange(count), mask)


class TestMoleculeContract(ModalityContract):
    modality = "molecule"
    any_registers = False
    cases: ClassVar[dict[str, Settings]] = {
        "organic": ORGANIC,
        "two elements": {"elements": [1, 14], "max_atoms": 4, "rotate": False},
        "added, with classes": {**ORGANIC, "added": True, "states": True},
    }

    def stored(self, settings: Settings, count: int) -> Batch:
        return molecules(settings, count)


def test_rotations_are_uniform() -> None:
    turn = random_rotations(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)))
    identity = torch.eye(3).expand(20_000, 3, 3)
    torch.testing.assert_close(turn @ turn.mT, identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(20_000), atol=1e-5, rtol=0)
    assert float(turn.mean(0).abs().max()) < 0.02  # 0 for uniform, with deviation 0.004
    assert float((turn.square().mean(0) - 1 / 3).abs().max()) < 0.01


def test_training_molecules_are_turned_each_by_its_own_rotation() -> None:
    modality = get_modality("molecule", ORGANIC)
    batch = molecules(ORGANIC, 4)
    turned = modality.prepare(batch, SlotRandom(0, 0, torch.arange(4))).data
    assert torch.equal(turned[..., 0], batch.data[..., 0])
    before, after = batch.data[..., 1:], turned[..., 1:]
    torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before))
    turns = torch.linalg.lstsq(before[0], after[0]).solution
    other = torch.linalg.lstsq(before[1], after[1]).solution
    assert not torch.allclose(turns, other, atol=0.1)
    assert modality.prepare(batch, None).data is batch.data


def test_the_loss_of_the_truth_is_its_doubt_about_elements_alone() -> None:
    modality, batch = get_modality("molecule", ORGANIC), molecules(ORGANIC, 3)
    logits = torch.nn.functional.one_hot(batch.data[..., 0].long(), 5) * 30.0
    truth = torch.cat([logits, *positions_and_vectors(batch.data, modality.elements)], dim=2)
    losses = modality.reconstruction_losses(truth, batch)
    assert set(losses) == {"elements", "positions", "vectors", "bonds", "distances"}
    assert all(float(loss) < 1e-6 for loss in losses.values())


def test_places_follow_bonds_more_than_positions() -> None:
    modality, batch = get_modality("molecule", ORGANIC), molecules(ORGANIC, 3)
    logits = torch.nn.functional.one_hot(batch.data[..., 0].long(), 5) * 30.0
    positions, vectors = positions_and_vectors(batch.data, modality.elements)
    noise = torch.randn(positions.shape, generator=torch.Generator().manual_seed(2))
    blurred = positions + 1e-3 * noise  # too little to move an atom to another anchor
    _, places = modality.split(torch.cat([logits, blurred, vectors], dim=2))
    anchors = find_anchors(positions, is_heavy(batch.data[..., 0], modality.elements))
    off = (vectors_from(places, anchors) - vectors).abs().mean()
    blur = (vectors_from(blurred, anchors) - vectors).abs().mean()
    assert float(off) < 0.5 * float(blur)


def test_distances_count_near_pairs_only() -> None:
    truth = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [9, 0, 0], [0, 0, 0]]])
    found = torch.tensor([[[0.0, 0, 0], [1.5, 0, 0], [5, 0, 0], [7, 7, 7]]])
    mask = torch.tensor([[True, True, True, False]])
    assert float(distance_error(found, truth, mask)) == pytest.approx(0.5)


def test_stretch_is_the_error_along_the_true_vector() -> None:
    truth = torch.tensor([[[1.0, 0, 0], [0, 2.0, 0], [0, 0, 0]]], requires_grad=True)
    found = torch.tensor([[[1.1, 3.0, 0], [0, -2.0, 0], [5.0, 0, 0]]])
    mask = torch.tensor([[True, True, True]])
    error = stretch_error(found, truth, mask)
    assert error.tolist() == pytest.approx([(0.1 + 4.0 + 0.0) / 3])
    error.sum().backward()
    assert truth.grad is not None
    assert bool(truth.grad.isfinite().all())


def test_a_vector_that_points_the_wrong_way_is_drawn_back() -> None:
    truth = torch.tensor([[[1.0, 0.0, 0.0]]])
    found = torch.tensor([[[-1.0, 0.1, 0.0]]], requires_grad=True)
    stretch_error(found, truth, torch.ones(1, 1, dtype=torch.bool)).sum().backward()
    assert found.grad is not None
    assert float(found.grad[0, 0, 0]) == pytest.approx(-1.0)  # towards the truth through zero


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="molecule settings are missing: max_atoms"):
        get_modality("molecule", {"elements": [1]})
    with pytest.raises(ValueError, match="unknown molecule setting atoms"):
        get_modality("molecule", {**ORGANIC, "atoms": 3})

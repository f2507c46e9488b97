"""Anchors and bond vectors of hand-made molecules, there and back."""

import torch

from openunite.modalities.molecule.anchors import (
    TRUST,
    assemble,
    find_anchors,
    guess_anchors,
    vectors_from,
)

# Ethanol's heavy atoms C-C-O in a row, then a hydrogen on each.
POSITIONS = torch.tensor(
    [[[0.0, 0, 0], [1.52, 0, 0], [2.0, 1.33, 0], [-0.4, -1.0, 0], [1.9, -1.0, 0], [2.96, 1.3, 0]]]
)
HEAVY = torch.tensor([[True, True, True, False, False, False]])


def test_anchors_are_bonded_atoms() -> None:
    assert find_anchors(POSITIONS, HEAVY).tolist() == [[-1, 0, 1, 0, 1, 2]]


def test_of_two_bonded_atoms_the_later_is_the_anchor() -> None:
    ring = torch.tensor([[[0.0, 0, 0], [1.50, 0, 0], [0.75, 1.30, 0]]])  # 0 is nearer by a hair
    ring[0, 2, 0] -= 0.02
    assert find_anchors(ring, torch.ones(1, 3, dtype=torch.bool)).tolist() == [[-1, 0, 1]]


def test_a_hydrogen_is_no_anchor_and_an_atom_before_all_heavy_ones_has_none() -> None:
    order = torch.tensor([3, 0, 1, 2, 4, 5])
    found = find_anchors(POSITIONS[:, order], HEAVY[:, order])
    assert found.tolist() == [[-1, -1, 1, 2, 2, 3]]


def test_positions_come_back_and_padding_changes_nothing() -> None:
    anchors = find_anchors(POSITIONS, HEAVY)
    vectors = vectors_from(POSITIONS, anchors)
    torch.testing.assert_close(vectors[0, 0], POSITIONS[0, 0])
    torch.testing.assert_close(assemble(POSITIONS, vectors, anchors), POSITIONS)
    padded = torch.cat([POSITIONS, torch.full((1, 2, 3), 7.0)], dim=1)
    heavy = torch.cat([HEAVY, torch.ones(1, 2, dtype=torch.bool)], dim=1)
    wide = find_anchors(padded, heavy)
    assert torch.equal(wide[:, :6], anchors)
    noise = torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        assemble(padded + noise, noise, wide)[:, :6],
        assemble(POSITIONS + noise[:, :6], noise[:, :6], anchors),
    )


def test_guessed_anchors_stand_a_blur_of_the_positions() -> None:
    anchors = find_anchors(POSITIONS, HEAVY)
    noise = torch.randn(POSITIONS.shape, generator=torch.Generator().manual_seed(0))
    guessed = guess_anchors(POSITIONS + 0.1 * noise, vectors_from(POSITIONS, anchors), HEAVY)
    assert torch.equal(guessed, anchors)


def test_assembled_bonds_have_the_error_of_positions_scaled_down() -> None:
    anchors = find_anchors(POSITIONS, HEAVY)
    vectors = vectors_from(POSITIONS, anchors)
    moved = POSITIONS.clone()
    moved[0, 5] += torch.tensor([0.3, 0.0, 0.0])  # a hydrogen, nobody's anchor
    found = vectors_from(assemble(moved, vectors, anchors), anchors)
    torch.testing.assert_close(found[0, 5] - vectors[0, 5], torch.tensor([0.3, 0, 0]) * (1 - TRUST))


def test_vectors_are_exact_under_autocast() -> None:
    exact = vectors_from(POSITIONS, find_anchors(POSITIONS, HEAVY))
    with torch.autocast("cpu", torch.bfloat16):
        found = vectors_from(POSITIONS, find_anchors(POSITIONS, HEAVY))
    assert torch.equal(found, exact)


def test_turning_a_molecule_turns_its_vectors() -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    anchors = find_anchors(POSITIONS @ turn, HEAVY)
    assert torch.equal(anchors, find_anchors(POSITIONS, HEAVY))
    torch.testing.assert_close(
        vectors_from(POSITIONS @ turn, anchors), vectors_from(POSITIONS, anchors) @ turn
    )

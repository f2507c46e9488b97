"""Atoms held by bonds: beside its position, each atom carries the vector from its anchor.

Two positions that are each known to 0.1 A say little about a bond, whose length is known to
0.02 A; a latent that holds the bond itself says it, whatever the noise on the rest. The anchor is
an atom that comes earlier, so the vectors form trees, and an atom without one is held by the
center of the molecule. Shapes: B batch, N atoms.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SLACK = 0.4  # Angstrom; bonds of one atom differ by less, its second neighbors are farther
TRUST = 0.8  # weight of the vectors against the positions


def find_anchors(
    positions: Float[Tensor, "b n 3"], heavy: Bool[Tensor, "b n"]
) -> Float[Tensor, "b n n"]:
    """Row i holds a one at the anchor of atom i, or zeros alone.

    Of the heavy atoms before i those count that are at most `SLACK` farther than the nearest; the
    last of them is the anchor. Written in the order of a molecule's graph, heavy atoms first, this
    is an atom that i is bonded to.
    """
    allowed = _before(heavy)
    apart = _distances(positions, positions).masked_fill(~allowed, torch.inf)
    near = allowed & (apart <= apart.amin(dim=2, keepdim=True) + SLACK)
    order = torch.arange(1, near.shape[2] + 1, device=near.device)
    last, index = torch.where(near, order, 0).max(dim=2)
    return _rows(index, last > 0, positions)


def guess_anchors(
    positions: Float[Tensor, "b n 3"],
    vectors: Float[Tensor, "b n 3"],
    heavy: Bool[Tensor, "b n"],
) -> Float[Tensor, "b n n"]:
    """The same from what a model says: the earlier heavy atom nearest to where a vector begins."""
    apart = _distances(positions - vectors, positions).masked_fill(~_before(heavy), torch.inf)
    least, index = apart.min(dim=2)
    return _rows(index, least.isfinite(), positions)


def vectors_from(
    positions: Float[Tensor, "b n 3"], anchors: Float[Tensor, "b n n"]
) -> Float[Tensor, "b n 3"]:
    """From the anchor of each atom to the atom; without an anchor, its position."""
    return positions - anchors @ positions


def assemble(
    positions: Float[Tensor, "b n 3"],
    vectors: Float[Tensor, "b n 3"],
    anchors: Float[Tensor, "b n n"],
) -> Float[Tensor, "b n 3"]:
    """Positions that agree with both: x_i = (1 - s) a_i + s (x_anchor(i) + v_i), s = `TRUST`.

    Each atom depends on earlier ones alone, so padding changes nothing.
    """
    system = torch.eye(anchors.shape[1], device=anchors.device) - TRUST * anchors
    return torch.linalg.solve_triangular(
        system, (1.0 - TRUST) * positions + TRUST * vectors, upper=False
    )


def _before(heavy: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n n"]:
    size = heavy.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=heavy.device).tril(-1)
    return earlier & heavy[:, None, :]


def _distances(
    ends: Float[Tensor, "b n 3"], starts: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b n n"]:
    return (ends[:, :, None] - starts[:, None]).square().sum(dim=3).sqrt()


def _rows(
    index: Tensor, anchored: Bool[Tensor, "b n"], like: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b n n"]:
    rows = torch.nn.functional.one_hot(index, index.shape[1]) * anchored[..., None]
    return rows.to(like.dtype)

"""Bond vectors: beside its position, each atom carries the vector from an anchor to the atom.

Two positions with errors of 0.1 A say little about a bond, whose length is known to 0.02 A; a
latent that holds the bond vector keeps the length in spite of noise on positions. The anchor comes
before the atom, so the vectors form trees; without an anchor, the vector starts at the center of
the molecule. Anchors are indices (B, N), `NONE` if there is none. Shapes: B batch, N atoms.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SLACK = 0.4  # Angstrom; bonds of one atom differ by less, its second neighbors are farther
NONE = -1
TRUST = 0.9  # weight of the vectors against the positions


def find_anchors(
    positions: Float[Tensor, "b n 3"], heavy: Bool[Tensor, "b n"]
) -> Int[Tensor, "b n"]:
    """The anchor of each atom of molecules with known positions.

    Candidates are the heavy atoms before atom i that are at most `SLACK` farther than the nearest
    one; the last candidate is the anchor. If atoms are in the order of the molecule's graph, heavy
    atoms first, atom i is bonded to its anchor.
    """
    allowed = _before(heavy)
    apart = distances(positions, positions).masked_fill(~allowed, torch.inf)
    near = allowed & (apart <= apart.amin(dim=2, keepdim=True) + SLACK)
    order = torch.arange(near.shape[2], device=near.device)
    return torch.where(near, order, NONE).amax(dim=2)


def guess_anchors(
    positions: Float[Tensor, "b n 3"],
    vectors: Float[Tensor, "b n 3"],
    heavy: Bool[Tensor, "b n"],
) -> Int[Tensor, "b n"]:
    """Anchors from a model's output: the earlier heavy atom nearest to the start of a vector."""
    apart = distances(positions - vectors, positions).masked_fill(~_before(heavy), torch.inf)
    least, index = apart.min(dim=2)
    return torch.where(least.isfinite(), index, NONE)


def vectors_from(
    positions: Float[Tensor, "b n 3"], anchors: Int[Tensor, "b n"]
) -> Float[Tensor, "b n 3"]:
    """Vectors from the anchors to the atoms; without an anchor, the position."""
    index = anchors.clamp_min(0)[..., None].expand_as(positions)
    starts = torch.where(anchors[..., None] == NONE, 0.0, positions.gather(1, index))
    return positions - starts


def assemble(
    positions: Float[Tensor, "b n 3"],
    vectors: Float[Tensor, "b n 3"],
    anchors: Int[Tensor, "b n"],
) -> Float[Tensor, "b n 3"]:
    """Positions that agree with both: x_i = (1 - s) a_i + s (x_anchor(i) + v_i), s = `TRUST`.

    Each atom depends on earlier ones alone, so padding changes nothing.
    """
    size = anchors.shape[1]
    holds = anchors[..., None] == torch.arange(size, device=anchors.device)
    system = torch.eye(size, device=anchors.device) - TRUST * holds.to(positions.dtype)
    return torch.linalg.solve_triangular(
        system, (1.0 - TRUST) * positions + TRUST * vectors, upper=False
    )


def distances(
    ends: Float[Tensor, "b n 3"], starts: Float[Tensor, "b n 3"]
) -> Float[Tensor, "b n n"]:
    """Distance of end i from start j at [b, i, j], as in `lengths`."""
    return lengths(ends[:, :, None] - starts[:, None])


def lengths(vectors: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s"]:
    """Lengths of vectors; at least 0.001, which keeps the gradient finite."""
    return vectors.square().sum(dim=-1).clamp_min(1e-6).sqrt()


def _before(heavy: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n n"]:
    size = heavy.shape[1]
    earlier = torch.ones(size, size, dtype=torch.bool, device=heavy.device).tril(-1)
    return earlier & heavy[:, None, :]

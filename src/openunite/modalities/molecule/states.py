"""What is discrete about an atom: its hydrogens, its heavy neighbors, the order of its bond.

A double bond is 0.15 A shorter than a single one. In a latent, such a length is a small number that
noise hides until the end of sampling; as a class it is decided together with the element. Orders
follow from the covalent radii of P. Pyykko and M. Atsumi (Chem. Eur. J. 15, 186 and 12770, 2009,
and with S. Riedel 11, 3511, 2005) for single, double and triple bonds; no metric uses them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from openunite.modalities.molecule.anchors import NONE, distances, find_anchors

KINDS, CLASSES = 3, 5  # three classes of each atom, 0 to 4
_REACH = 1.2  # two atoms are neighbors up to this multiple of the sum of their radii
_RADII = {  # pm; of single, double and triple bonds, 0 where there is none
    1: (32, 0, 0), 5: (85, 78, 73), 6: (75, 67, 60), 7: (71, 60, 54), 8: (63, 57, 53),
    9: (64, 59, 53), 14: (116, 107, 102), 15: (111, 102, 94), 16: (103, 94, 95),
    17: (99, 95, 93), 34: (116, 107, 107), 35: (114, 109, 110), 53: (133, 129, 125),
}  # fmt: skip
_OTHER = (140, 0, 0)


def bond_limits(elements: Sequence[int]) -> Float[Tensor, "3 e e"]:
    """Distances in Angstrom below which a pair of elements has a bond of order 1, 2, 3.

    An order begins halfway between its typical length and that of the order below.
    """
    radii = torch.tensor([_RADII.get(number, _OTHER) for number in elements]).T / 100.0
    typical = radii[:, :, None] + radii[:, None]
    halfway = (typical[1:] + typical[:-1]) / 2.0
    known = (radii[1:, :, None] > 0) & (radii[1:, None] > 0)
    return torch.cat([_REACH * typical[:1], torch.where(known, halfway, 0.0)])


def atom_states(
    molecules: Float[Tensor, "b n 4"], heavy: Bool[Tensor, "b n"], limits: Float[Tensor, "3 e e"]
) -> Int[Tensor, "b n 3"]:
    """Hydrogens held, heavy neighbors, and the order of the bond to the anchor; each 0 to 4."""
    index, positions = molecules[..., 0].long(), molecules[..., 1:4]
    filled = (molecules != 0).any(dim=2).flip(1).cumsum(dim=1).flip(1)
    there = filled > 0  # up to the last row that is not padding, which is zero
    anchors = find_anchors(positions, heavy)
    apart = distances(positions, positions)
    closer = apart < limits[:, index[:, :, None], index[:, None]]
    order = torch.arange(anchors.shape[1], device=anchors.device)
    held = (anchors[:, :, None] == order) & (~heavy & there)[:, :, None]
    near = closer[0] & (heavy & there)[:, None] & (order[:, None] != order)
    bonds = closer.sum(dim=0).gather(2, anchors.clamp_min(0)[..., None])[..., 0]
    counts = [held.sum(dim=1), near.sum(dim=2), bonds * (anchors != NONE)]
    return torch.stack(counts, dim=-1).clamp_max(CLASSES - 1)

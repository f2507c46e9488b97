"""Molecules: elements and positions in, elements and positions out, one register per atom.

A molecule is a packed tensor (N, 4): the index of its element among `elements`, then x, y, z in
Angstrom, centered on the mean of its atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from openunite.batch import Batch
from openunite.flow.random import SlotRandom, Stream
from openunite.modalities.atoms.tokens import (
    AtomEmbedder,
    AtomHead,
    AtomSettings,
    mean_over_atoms,
    random_rotations,
)
from openunite.modalities.molecule.anchors import (
    assemble,
    distances,
    find_anchors,
    guess_anchors,
    lengths,
    vectors_from,
)
from openunite.modalities.molecule.states import CLASSES, KINDS, atom_states, bond_limits
from openunite.modality import Modality

_HYDROGEN = 1


class MoleculeEmbedder(AtomEmbedder):
    """Packed molecules (B, N, 4) -> tokens (B, N, D), from elements, positions, bond vectors.

    With `states`, tokens also hold the classes of `states.py`.
    """

    limits: Tensor

    def __init__(self, settings: "MoleculeSettings", width: int) -> None:
        super().__init__(settings.elements, settings.max_atoms, 6, width)
        self.added = settings.added
        kinds = KINDS if settings.states else 0
        self.states = nn.ModuleList(nn.Embedding(CLASSES, width) for _ in range(kinds))
        self.register_buffer("limits", bond_limits(self.elements), persistent=False)

    def forward(self, molecules: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n d"]:
        positions, vectors = positions_and_vectors(molecules, self.elements)
        tokens = self.tokens(molecules[..., 0], torch.cat([positions, vectors], dim=-1))
        if self.states:
            heavy = is_heavy(molecules[..., 0], self.elements)
            found = atom_states(molecules, heavy, self.limits).unbind(dim=2)
            for table, classes in zip(self.states, found, strict=True):
                tokens = tokens + table(classes)
        return tokens


@dataclass(frozen=True)
class MoleculeSettings(AtomSettings):
    """Settings of molecules.

    `rotate` turns training molecules at random. `added` adds the token of an atom to its register.
    `states` gives each atom three classes beside its element, see states.py.
    """

    rotate: bool = True
    added: bool = False
    states: bool = False


class MoleculeModality(Modality):
    """Molecules: packed tensors (B, N, 4) in, (B, N, E + 6) out.

    Output of the head: element logits, a position and a bond vector in Angstrom, which `split`
    combines into one position (see anchors.py). The loss is the sum of the cross-entropy of
    elements, twice the L1 of positions, 3 times that of vectors, 6 times that along the true
    vectors, and the L1 of distances below 3 Angstrom, which decide whether two atoms look bonded.
    """

    Settings = MoleculeSettings
    settings: MoleculeSettings

    def __init__(self, settings: MoleculeSettings) -> None:
        super().__init__(settings)
        self.elements, self.max_atoms = settings.elements, settings.max_atoms

    def embedder(self, width: int) -> MoleculeEmbedder:
        return MoleculeEmbedder(self.settings, width)

    def head(self, width: int) -> AtomHead:
        classes = KINDS * CLASSES if self.settings.states else 0
        return AtomHead(self.max_atoms, len(self.elements) + 6 + classes, width)

    def reconstruction_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {name: error.mean() for name, error in self.errors(output, batch).items()}

    def errors(self, output: Tensor, batch: Batch) -> dict[str, Float[Tensor, " b"]]:
        """The terms of the loss by name, (B,) with one value per molecule."""
        data, mask = batch.data, batch.valid
        logits, positions, vectors, states = self._outputs(output)
        true_positions, true_vectors = positions_and_vectors(data, self.elements)
        types = F.cross_entropy(logits.transpose(1, 2), data[..., 0].long(), reduction="none")
        found = {"states": self._state_error(states, data, mask)} if self.settings.states else {}
        return found | {
            "elements": mean_over_atoms(types, mask),
            "positions": 2.0 * _l1(positions, true_positions, mask),
            "vectors": 3.0 * _l1(vectors, true_vectors, mask),
            "bonds": 6.0 * stretch_error(vectors, true_vectors, mask),
            "distances": distance_error(positions, true_positions, mask),
        }

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Element logits (B, N, E) and positions (B, N, 3) that also agree with the vectors."""
        logits, positions, vectors, _ = self._outputs(output)
        heavy = is_heavy(logits.argmax(dim=-1), self.elements)
        return logits, assemble(positions, vectors, guess_anchors(positions, vectors, heavy))

    def _outputs(self, output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        known = len(self.elements)
        sizes = [known, 3, 3, output.shape[-1] - known - 6]
        logits, positions, vectors, states = output.float().split(sizes, dim=-1)
        return logits, positions, vectors, states

    def _state_error(self, logits: Tensor, data: Tensor, mask: Tensor) -> Float[Tensor, " b"]:
        """The cross-entropy of the three classes, summed over them."""
        limits = bond_limits(self.elements).to(data.device)
        truth = atom_states(data, is_heavy(data[..., 0], self.elements), limits)
        said = logits.unflatten(2, (KINDS, CLASSES)).permute(0, 3, 1, 2)
        wrong = F.cross_entropy(said, truth, reduction="none")
        return mean_over_atoms(wrong.sum(dim=2), mask)

    def prepare(self, batch: Batch, random: SlotRandom | None) -> Batch:
        if random is None or not self.settings.rotate:
            return batch
        data, turn = batch.data, random_rotations(random.normal(Stream.AUGMENT, 4))
        with torch.autocast(data.device.type, enabled=False):  # autocast would round the targets
            turned = data[..., 1:] @ turn
        return batch.with_data(torch.cat([data[..., :1], turned], dim=-1))


def positions_and_vectors(
    molecules: Float[Tensor, "b n 4"], elements: Sequence[int]
) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
    """Positions and bond vectors of packed molecules, Angstrom."""
    positions = molecules[..., 1:4]
    anchors = find_anchors(positions, is_heavy(molecules[..., 0], elements))
    return positions, vectors_from(positions, anchors)


def is_heavy(index: Num[Tensor, "b n"], elements: Sequence[int]) -> Bool[Tensor, "b n"]:
    """Whether atoms, given by the index of their element, are other than hydrogen."""
    return index != (elements.index(_HYDROGEN) if _HYDROGEN in elements else -1)


def _l1(
    found: Float[Tensor, "b n 3"], truth: Float[Tensor, "b n 3"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, " b"]:
    return mean_over_atoms((found - truth).abs().mean(dim=-1), mask)


def distance_error(
    found: Tensor, truth: Tensor, mask: Tensor, cutoff: float = 3.0
) -> Float[Tensor, " b"]:
    """L1 of the distances between atoms that are closer than `cutoff` (Angstrom) in the truth."""
    apart, predicted = distances(truth, truth), distances(found, found)
    pairs = mask[:, :, None] & mask[:, None] & (apart < cutoff)
    pairs = pairs & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    error = ((predicted - apart).abs() * pairs).sum(dim=(1, 2))
    return error / pairs.sum(dim=(1, 2)).clamp_min(1)


def stretch_error(
    found: Float[Tensor, "b n 3"], truth: Float[Tensor, "b n 3"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, " b"]:
    """L1 along the true vectors: |(v^ - v) . v / |v||.

    Near the truth it equals the error of the length. Unlike that error it is convex, so that a
    vector which points the wrong way can turn round.
    """
    along = ((found - truth) * truth).sum(dim=-1) / lengths(truth)
    return mean_over_atoms(along.abs(), mask)

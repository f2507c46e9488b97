"""Structures beside their references: output i belongs to reference i, atom i to atom i."""

from collections.abc import Sequence

import numpy as np

from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.measured import Column
from openunite.evaluation.rates import clustered_rate, rate


def check_pairs(outputs: Sequence[Structure], references: Sequence[Structure]) -> None:
    """Raise ValueError unless there are as many outputs as references."""
    if len(outputs) != len(references):
        raise ValueError(
            f"expected one output per reference, got {len(outputs)} and {len(references)}; pass "
            "them in the same order"
        )


def check_atoms(outputs: Sequence[Structure], references: Sequence[Structure]) -> None:
    """Raise ValueError unless the two structures of each pair have equally many atoms."""
    check_pairs(outputs, references)
    for i, (output, reference) in enumerate(zip(outputs, references, strict=True)):
        if len(output) != len(reference) or len(reference) == 0:
            raise ValueError(
                f"pair {i} ({reference.name or 'no name'}): expected {len(reference)} atoms as in "
                f"the reference and at least one, got {len(output)}; atoms are compared in the "
                "order given"
            )


def type_accuracy(
    outputs: Sequence[Structure], references: Sequence[Structure], thing: str
) -> Column:
    """The fraction of atoms of the right element, and of things ("molecule") with no wrong atom.

    ValueError as from `check_atoms`.
    """
    check_atoms(outputs, references)
    pairs = zip(outputs, references, strict=True)
    right = [int((output.numbers == reference.numbers).sum()) for output, reference in pairs]
    sizes = [len(reference) for reference in references]
    whole = sum(hit == size for hit, size in zip(right, sizes, strict=True))
    return {
        "atom_type_accuracy": clustered_rate(right, sizes),
        f"{thing}_type_accuracy": rate(whole, len(sizes)),
    }


def kabsch_rmsd(outputs: Sequence[Structure], references: Sequence[Structure]) -> Floats:
    """Root mean square distance in Angstrom (M,) after the best shift and rotation.

    Rotations are proper: a mirror image of a chiral molecule does not match it. All atoms,
    hydrogens included, have equal weight, and elements do not matter. Coordinates that are not
    finite give infinity. Raises ValueError if the sets or two molecules differ in length, or a
    molecule has no atoms.
    """
    check_atoms(outputs, references)
    return np.array([_rmsd(*pair) for pair in zip(outputs, references, strict=True)])


def _rmsd(output: Structure, reference: Structure) -> float:
    if not np.isfinite([output.positions, reference.positions]).all():
        return float("inf")
    moved = output.positions - output.positions.mean(0)
    fixed = reference.positions - reference.positions.mean(0)
    left, _, right = np.linalg.svd(moved.T @ fixed)
    # Where a reflection fits better, flip the axis of the smallest singular value.
    left[:, -1] *= np.sign(np.linalg.det(left @ right))
    return float(np.sqrt(np.square(moved @ left @ right - fixed).sum(-1).mean()))

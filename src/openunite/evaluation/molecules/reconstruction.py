"""Reconstruction errors of molecules: elements and positions, atom i against atom i."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.rates import Rate


@dataclass(frozen=True)
class TypeAccuracy:
    """Fraction of atoms of the right element, and of molecules with no wrong atom."""

    atoms: Rate
    molecules: Rate


def type_accuracy(outputs: Sequence[Structure], references: Sequence[Structure]) -> TypeAccuracy:
    """Compare the elements of atoms in the order given.

    Raises ValueError if the sets or two molecules differ in length.
    """
    _check_pairs(outputs, references)
    right = [
        int((output.numbers == reference.numbers).sum())
        for output, reference in zip(outputs, references, strict=True)
    ]
    sizes = [len(reference) for reference in references]
    whole = sum(hit == size for hit, size in zip(right, sizes, strict=True))
    return TypeAccuracy(Rate.clustered(right, sizes), Rate.of(whole, len(references)))


def kabsch_rmsd(outputs: Sequence[Structure], references: Sequence[Structure]) -> Floats:
    """Root mean square distance in Angstrom (M,) after the best shift and rotation.

    Rotations are proper: a mirror image of a chiral molecule does not match it. All atoms,
    hydrogens included, have equal weight, and elements do not matter. Coordinates that are not
    finite give infinity. Raises ValueError if the sets or two molecules differ in length, or a
    molecule has no atoms.
    """
    _check_pairs(outputs, references)
    moved = [_centered(output) for output in outputs]
    fixed = [_centered(reference) for reference in references]
    finite = np.array(
        [
            bool(np.isfinite(a).all() and np.isfinite(b).all())
            for a, b in zip(moved, fixed, strict=True)
        ]
    )
    covariances = np.zeros((len(outputs), 3, 3))
    for i in np.flatnonzero(finite):
        covariances[i] = moved[i].T @ fixed[i]
    rotations = _rotations(covariances)
    result = np.full(len(outputs), np.inf)
    for i in np.flatnonzero(finite):
        squared = np.square(moved[i] @ rotations[i] - fixed[i]).sum(-1)
        result[i] = np.sqrt(squared.mean())
    return result


def _rotations(covariances: Floats) -> Floats:
    """The proper rotations R (M, 3, 3) that minimize |X R - Y| from covariances X^T Y."""
    left, _, right = np.linalg.svd(covariances)
    # Where a reflection fits better, flip the axis of the smallest singular value.
    left[:, :, -1] *= np.sign(np.linalg.det(left @ right))[:, None]
    rotations: Floats = left @ right
    return rotations


def _centered(structure: Structure) -> Floats:
    if len(structure) == 0:
        raise ValueError(
            f"expected molecules with atoms, got none in {structure.name or 'a structure'}; "
            "leave empty structures out"
        )
    with np.errstate(invalid="ignore"):
        centered: Floats = structure.positions - structure.positions.mean(0)
    return centered.astype(np.float64)


def _check_pairs(outputs: Sequence[Structure], references: Sequence[Structure]) -> None:
    if len(outputs) != len(references):
        raise ValueError(
            f"expected one output per reference, got {len(outputs)} and {len(references)}; pass "
            "them in the same order"
        )
    for i, (output, reference) in enumerate(zip(outputs, references, strict=True)):
        if len(output) != len(reference):
            raise ValueError(
                f"pair {i} ({reference.name or 'no name'}): expected {len(reference)} atoms as in "
                f"the reference, got {len(output)}; atoms are compared in the order given"
            )

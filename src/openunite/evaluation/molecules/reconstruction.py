"""Reconstruction errors of molecules: distances of positions, atom i against atom i."""

from collections.abc import Sequence

import numpy as np

from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.pairs import check_atoms


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

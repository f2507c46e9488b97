"""Reconstruction errors of crystals: elements, cell and coordinates, atom i against atom i.

Cells are compared edge by edge without a reduction: outputs and references must be in the same
setting, such as Niggli's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openunite.data.atoms.lattice import parameters_from_cell
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.crystals.averages import Average
from openunite.evaluation.crystals.matching import check_pairs
from openunite.evaluation.crystals.periodic import cell_of
from openunite.evaluation.rates import Rate


@dataclass(frozen=True)
class CrystalReconstruction:
    """Rates of correct elements, per atom and per crystal, and errors averaged over crystals.

    `length_error` (mean of three, Angstrom), `angle_error` (mean of three, degrees) and
    `fractional_rmsd` are over pairs in which both cells are possible and all positions finite;
    `left_out` counts the others.
    """

    atom_types: Rate
    crystal_types: Rate
    length_error: Average
    angle_error: Average
    fractional_rmsd: Average
    left_out: int


def reconstruction_scores(
    outputs: Sequence[Structure], references: Sequence[Structure]
) -> CrystalReconstruction:
    """Compare output i with reference i. ValueError if numbers of atoms differ."""
    check_pairs(outputs, references)
    pairs = list(zip(outputs, references, strict=True))
    errors = np.array([_errors(*pair) for pair in pairs], dtype=np.float64).reshape(-1, 3)
    right = [int((output.numbers == reference.numbers).sum()) for output, reference in pairs]
    sizes = [len(reference) for reference in references]
    whole = sum(hit == size for hit, size in zip(right, sizes, strict=True))
    finite = np.isfinite(errors).all(axis=1)
    lengths, angles, shifts = map(Average.of, errors[finite].T)
    return CrystalReconstruction(
        atom_types=Rate.clustered(right, sizes),
        crystal_types=Rate.of(whole, len(sizes)),
        length_error=lengths,
        angle_error=angles,
        fractional_rmsd=shifts,
        left_out=int((~finite).sum()),
    )


def _errors(output: Structure, reference: Structure) -> tuple[float, float, float]:
    """Errors of lengths (A), angles (degrees), fractional coordinates; NaN or inf if impossible."""
    cells = np.stack([cell_of(output), cell_of(reference)])
    with np.errstate(invalid="ignore", divide="ignore"):
        between = np.abs(np.subtract(*parameters_from_cell(cells)))
    try:
        shift = fractional_rmsd(output, reference)
    except np.linalg.LinAlgError:  # a flat cell
        shift = float("nan")
    return float(between[:3].mean()), float(between[3:].mean()), shift


def fractional_rmsd(output: Structure, reference: Structure) -> float:
    """Root mean square over atoms of the difference of fractional coordinates, up to a shift.

    The difference of an atom is the norm of its three differences, each wrapped into [-1/2, 1/2].
    Since the origin of a crystal is arbitrary, the best common shift of all atoms is removed. It is
    found exactly; the mean of wrapped differences would be wrong if they lie on both sides of 1/2.
    ValueError if the numbers of atoms differ or are zero.
    """
    if len(output) != len(reference) or len(output) == 0:
        raise ValueError(
            f"{reference.name or 'a crystal'}: expected {len(reference)} atoms as in the "
            f"reference and at least one, got {len(output)}; atoms are compared in the order given"
        )
    differences = output.fractional - reference.fractional
    return float(np.sqrt(sum(_circular_variance(axis) for axis in differences.T)))


def _circular_variance(values: Floats) -> float:
    """The least mean square distance of values (N,) to any one point of a circle of length 1.

    The best point is the mean of the values unrolled from some cut, and the N cuts between sorted
    values give means 1/N apart.
    """
    unrolled = np.mod(values, 1.0)
    centers = unrolled.mean() + np.arange(len(values)) / len(values)
    residuals = unrolled[:, None] - centers
    residuals -= np.round(residuals)
    return float(np.square(residuals).mean(0).min())

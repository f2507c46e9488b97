"""Reconstruction errors of crystals: elements, cell and coordinates, atom i against atom i.

Cells are compared edge by edge without a reduction: outputs and references must be in the same
setting, such as Niggli's.
"""

from collections.abc import Sequence

import numpy as np

from openunite.data.atoms.lattice import parameters_from_cell
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.crystals.validity import cell_of
from openunite.evaluation.measured import Column, Measured
from openunite.evaluation.pairs import type_accuracy
from openunite.evaluation.rates import average


def reconstruction_scores(outputs: Sequence[Structure], references: Sequence[Structure]) -> Column:
    """Accuracies of elements, and errors averaged over crystals. ValueError as of `check_atoms`.

    `lattice_length_mae` (mean of three, Angstrom), `lattice_angle_mae` (mean of three, degrees) and
    `fractional_rmsd` are over pairs in which both cells are possible and all positions finite;
    `num_left_out` counts the others.
    """
    scores = type_accuracy(outputs, references, "crystal")
    pairs = zip(outputs, references, strict=True)
    errors = np.array([_errors(*pair) for pair in pairs], dtype=np.float64).reshape(-1, 3)
    finite = np.isfinite(errors).all(axis=1)
    scores["num_left_out"] = Measured(int((~finite).sum()))
    if finite.any():
        names = ("lattice_length_mae", "lattice_angle_mae", "fractional_rmsd")
        scores |= dict(zip(names, map(average, errors[finite].T), strict=True))
    return scores


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
    """
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

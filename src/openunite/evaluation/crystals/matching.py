"""Are two crystals the same? pymatgen's StructureMatcher with the tolerances of CDVAE.

The matcher makes cells primitive and scales them to one volume first, so origin, supercell and
overall size do not count: a cell 30 % larger still matches. RMS displacements are divided by (V /
N)^(1/3) and have no unit. Match rates of autoencoders and of structure prediction cannot be
compared.

Pass primitive cells: an exact copy of a larger cell is reduced but a copy with noise of 0.1 A is
not, and primitive cells of different size never match.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.convert import to_pymatgen
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.measured import Column, Measured
from openunite.evaluation.pairs import check_pairs
from openunite.evaluation.rates import average, rate
from openunite.optional import optional
from openunite.progress import bar

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher


def structure_matcher() -> "StructureMatcher":
    """A matcher with stol 0.5, angle_tol 10, ltol 0.3 (S.U.N. uses the defaults 0.3, 5, 0.2)."""
    module = "pymatgen.analysis.structure_matcher"
    matcher = optional(module, "crystals", "matching crystals").StructureMatcher
    return cast("StructureMatcher", matcher(stol=0.5, angle_tol=10, ltol=0.3))


def rms_distances(
    outputs: Sequence[Structure],
    references: Sequence[Structure],
    *,
    judged: NDArray[np.bool_] | None = None,
) -> Floats:
    """RMS displacement (M,), dimensionless, of each output from its reference; inf: no match.

    Pairs outside `judged` (M,) are not compared and get inf. A pair takes about 15 ms; shows
    progress. A pair on which pymatgen fails does not match. ValueError if the two differ in length.
    """
    check_pairs(outputs, references)
    rows = np.arange(len(outputs)) if judged is None else np.flatnonzero(judged)
    matcher, found = structure_matcher(), np.full(len(outputs), np.inf)
    for i in bar(rows.tolist(), desc="match", disable=None, leave=False):
        found[i] = _rms(matcher, outputs[i], references[i])
    return found


def match_scores(
    outputs: Sequence[Structure],
    references: Sequence[Structure],
    valid_outputs: NDArray[np.bool_],
    valid_references: NDArray[np.bool_],
) -> Column:
    """Match rates over all pairs, and mean RMS displacements of the pairs that match, if any.

    `match_rate` (ADiT, DiffCSP) counts a pair only if output and reference are valid, so it does
    not exceed `match_rate_ceiling`, the fraction of valid references; `match_rate_output_valid`
    (CDVAE) only needs a valid output. The masks (M,) are those of `CrystalValidity.overall`.
    """
    rms = rms_distances(outputs, references, judged=valid_outputs)
    ceiling = rate(int(valid_references.sum()), len(rms)).value
    scores: Column = {"match_rate_ceiling": Measured(ceiling)}
    for name, found in (("", rms[valid_references]), ("_output_valid", rms)):
        matched = found[np.isfinite(found)]
        scores[f"match_rate{name}"] = rate(len(matched), len(rms))
        if len(matched):
            scores[f"match_rms{name}"] = average(matched)
    return scores


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pymatgen's warnings, for instance about elements without an electronegativity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _rms(matcher: "StructureMatcher", output: Structure, reference: Structure) -> float:
    with quiet():
        try:
            found = matcher.get_rms_dist(to_pymatgen(output), to_pymatgen(reference))
        except Exception:  # the protocol: any failure is no match
            return float("inf")
    return float("inf") if found is None else float(found[0])

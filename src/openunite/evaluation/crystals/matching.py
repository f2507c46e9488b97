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
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from openunite.data.atoms.convert import to_pymatgen
from openunite.data.atoms.structure import Floats, Structure
from openunite.evaluation.crystals.averages import Average
from openunite.evaluation.rates import Rate
from openunite.progress import bar

if TYPE_CHECKING:
    from pymatgen.analysis.structure_matcher import StructureMatcher


@dataclass(frozen=True)
class MatchScores:
    """Match rates among all pairs, and RMS displacements of the pairs that match.

    `both_valid` (ADiT, DiffCSP) counts a pair only if output and reference are valid, so no rate
    exceeds `ceiling`, the fraction of valid references; `output_valid` (CDVAE) only needs a
    valid output.
    """

    both_valid: Rate
    both_valid_rms: Average
    output_valid: Rate
    output_valid_rms: Average
    ceiling: Rate


def structure_matcher() -> "StructureMatcher":
    """A matcher with stol 0.5, angle_tol 10, ltol 0.3 (S.U.N. uses the defaults 0.3, 5, 0.2)."""
    try:
        from pymatgen.analysis.structure_matcher import StructureMatcher
    except ImportError as error:
        raise ImportError(
            "matching crystals needs pymatgen: pip install 'openunite[crystals]'"
        ) from error
    return StructureMatcher(stol=0.5, angle_tol=10, ltol=0.3)


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
) -> MatchScores:
    """Match rates over all pairs. The masks (M,) are those of `CrystalValidity.overall`."""
    rms = rms_distances(outputs, references, judged=valid_outputs)
    strict = rms[valid_references]
    strict, lenient = strict[np.isfinite(strict)], rms[np.isfinite(rms)]
    return MatchScores(
        both_valid=Rate.of(len(strict), len(rms)),
        both_valid_rms=Average.of(strict),
        output_valid=Rate.of(len(lenient), len(rms)),
        output_valid_rms=Average.of(lenient),
        ceiling=Rate.of(int(valid_references.sum()), len(rms)),
    )


def check_pairs(outputs: Sequence[Structure], references: Sequence[Structure]) -> None:
    """Raise ValueError unless there are as many outputs as references."""
    if len(outputs) != len(references):
        raise ValueError(
            f"expected one output per reference, got {len(outputs)} and {len(references)}; pass "
            "them in the same order"
        )


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

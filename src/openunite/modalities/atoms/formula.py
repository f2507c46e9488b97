"""Formulas that are asked for and kept: numbers of atoms that fit them, elements that are set."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from openunite.batch import Evidence
from openunite.conditions.composition import Counts, counts_of, formula_of


def formulas_of(known: Mapping[str, Mapping[str, Any]], evidence: Evidence) -> dict[int, Counts]:
    """The formula of each sample of which one is asked; `known` are the model's conditions."""
    found: dict[int, Counts] = {}
    for name, given in evidence.conditions.items():
        if known.get(name, {}).get("kind") == "composition":
            for row in given.known.nonzero()[:, 0].tolist():
                pairs = given.values[row].reshape(-1, 2).long().tolist()
                found[row] = {number: count for number, count in pairs if number}
    return found


def draw_formulas(
    histogram: Mapping[str, int], uniform: Float[Tensor, " b"], sizes: Sequence[int] | None
) -> list[str | None]:
    """A formula for each sample, as often as in `histogram`; None where none has the asked size.

    Formulas are ordered by their number of atoms, so that the size of a sample is what it is when
    the same `uniform` number draws the size alone.
    """
    totals = {formula: sum(counts_of(formula).values()) for formula in histogram}
    ordered = sorted(histogram, key=lambda formula: (totals[formula], formula))
    found: list[str | None] = [None] * len(uniform)
    for size in [None] if sizes is None else sorted(set(sizes)):
        rows = [i for i in range(len(uniform)) if sizes is None or sizes[i] == size]
        names = [formula for formula in ordered if size in (None, totals[formula])]
        if not names:
            continue
        shares = torch.tensor([histogram[name] for name in names]).double().cumsum(0)
        chosen = torch.searchsorted(shares / shares[-1], uniform[rows], right=True)
        for row, place in zip(rows, chosen.clamp_max(len(names) - 1).tolist(), strict=True):
            found[row] = names[place]
    return found


def check_formulas(histogram: Any) -> dict[str, int]:
    """A histogram of formulas as a plain dictionary. ValueError for anything else."""
    fits = isinstance(histogram, Mapping) and all(
        isinstance(name, str) and type(n) is int and n > 0 for name, n in histogram.items()
    )
    if not fits:
        raise ValueError(
            f"formula_histogram must be counts of at least 1 by formula, got {histogram!r:.100}"
        )
    for name in histogram:
        counts_of(name)
    return dict(histogram)


def composition_of(known: Mapping[str, Mapping[str, Any]] | None) -> str | None:
    """The name of the first condition that is a composition, None without any."""
    known = known or {}
    return next((name for name in sorted(known) if known[name]["kind"] == "composition"), None)


def allowed_sizes(
    histograms: Float[Tensor, "b s"], formulas: Mapping[int, Counts], most: int, *, repeats: bool
) -> Float[Tensor, "b s"]:
    """How often samples have 0, 1, 2, ... atoms, where formulas allow it.

    The formula's own number of atoms where training saw none that fits. ValueError for a formula of
    more than `most` atoms.
    """
    if not formulas:
        return histograms
    rows = torch.zeros(len(histograms), most + 1, dtype=histograms.dtype)
    rows[:, : histograms.shape[1]] = histograms
    for i, counts in formulas.items():
        own = sum(counts.values())
        if own > most:
            raise ValueError(
                f"{formula_of(counts)} has {own} atoms, this model makes at most {most}; ask for a "
                "smaller formula"
            )
        fits = torch.zeros(most + 1, dtype=torch.bool)
        fits[own :: own if repeats else most + 1] = True
        rows[i] *= fits
        if not rows[i].any():
            rows[i, own] = 1.0
    return rows


def check_sizes(sizes: Sequence[int], formulas: Mapping[int, Counts], *, repeats: bool) -> None:
    """ValueError for a number of atoms that a formula does not allow."""
    for i, counts in formulas.items():
        own = sum(counts.values())
        if sizes[i] % own or (not repeats and sizes[i] != own):
            several = " or a multiple" if repeats else ""
            raise ValueError(
                f"num_atoms must be {own}{several} for {formula_of(counts)}, got {sizes[i]}; or "
                "leave it out"
            )


def set_elements(
    output: Float[Tensor, "n f"], size: int, formula: Counts, elements: Sequence[int]
) -> None:
    """Let the element logits of the first `size` atoms, in place, say the elements of a formula.

    The surest atoms choose first, each the likeliest element that is left.
    """
    logits = output[:size, : len(elements)]
    sure = logits.log_softmax(dim=1).flatten().argsort(descending=True).tolist()
    times = size // sum(formula.values())
    left = {elements.index(number): times * count for number, count in formula.items()}
    chosen: dict[int, int] = {}
    for place in sure:
        atom, element = divmod(place, len(elements))
        if atom not in chosen and left.get(element, 0):
            chosen[atom] = element
            left[element] -= 1
    logits.fill_(-1e4)
    logits[list(chosen), list(chosen.values())] = 1e4

"""Structures beside their references: output i belongs to reference i, atom i to atom i."""

from collections.abc import Sequence

from openunite.data.atoms.structure import Structure
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

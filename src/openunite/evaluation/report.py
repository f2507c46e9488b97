"""The metrics of generated structures, each beside its value on real ones, as numbers and text."""

from collections.abc import Sequence
from dataclasses import dataclass

from openunite.data.atoms.structure import Structure
from openunite.evaluation.measured import Column, Flat, text_table, vocabulary
from openunite.evaluation.pairs import check_pairs


@dataclass(frozen=True)
class Report:
    """Columns "samples", "real" and perhaps others; `counts` are the sizes of sets.

    `kind` ("molecules", "crystals") names the table of metrics.
    """

    kind: str
    columns: dict[str, Column]
    counts: Flat

    @property
    def metrics(self) -> Flat:
        """Flat metrics; `x_se` is the standard error of `x`, and `x_of` its total."""
        return self.counts | vocabulary(self.kind).flat(self.columns)

    def table(self) -> str:
        """Plain text: samples beside real structures, then reconstructions beside real ones."""
        rows = vocabulary(self.kind)
        sizes = [f"{count} {name.removeprefix('num_')}" for name, count in self.counts.items()]
        columns, lines = dict(self.columns), [", ".join(sizes)]
        rebuilt = columns.pop("reconstructions", None)
        lines += text_table(columns, lambda name: rows[name].label)
        if rebuilt is not None:
            real = {name: found for name, found in columns["real"].items() if name in rebuilt}
            both = {"reconstructions": rebuilt, "real": real}
            lines += ["", *text_table(both, lambda name: rows[name].label)]
        return "\n".join(lines)


def check_sets(
    thing: str,
    samples: Sequence[Structure],
    reference: Sequence[Structure],
    reconstructions: Sequence[Structure] | None,
) -> None:
    """Raise ValueError for an empty set of things, or a wrong number of reconstructions."""
    for name, structures in (("samples", samples), ("reference", reference)):
        if len(structures) == 0:
            raise ValueError(f"expected at least one {thing} in {name}, got none")
    if reconstructions is not None:
        check_pairs(reconstructions, reference)

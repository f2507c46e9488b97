"""The demo of a model of molecules, crystals or both."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.data.holdout import Skipped
from openunite.demo.forms import Form
from openunite.demo.shows import WALK, Answer, Show, Shown
from openunite.drawing.structures import structure_grid
from openunite.modalities.atoms.columns import formula
from openunite.modalities.atoms.files import AtomFiles
from openunite.modalities.atoms.pipeline import AtomLatents

_MOST_SAMPLES = 12
_MOST_UPLOAD = 1_000_000  # bytes; a structure takes a few thousand
_SIDE = 240


class AtomShow(Show):
    """Molecules and crystals, each as a picture and as numbers that the page turns in 3-D."""

    sized = True

    @property
    def accepts(self) -> tuple[str, ...]:  # type: ignore[override]
        """The suffixes that this model reads."""
        known = {"molecules": (".sdf", ".mol", ".xyz"), "crystals": (".cif", ".xyz")}
        return known.get(self.task.things, (".sdf", ".mol", ".xyz", ".cif"))

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"most_samples": _MOST_SAMPLES}

    def _draw(
        self, form: Form, count: int, label: int | None, seed: int, atoms: int | None, **own: Any
    ) -> list[Structure]:
        found: list[Structure] = self.pipeline(
            count,
            class_labels=self.labels(label, count),
            seeds=[seed + i for i in range(count)],
            num_atoms=atoms,
            conditions=form.conditions,
            **form.changes,
            **own,
        )
        return found

    def sample(self, form: Form) -> Answer:
        count = min(form.count, _MOST_SAMPLES)
        found = self._draw(form, count, form.label, form.seed, form.atoms)
        shown = [
            _shown(structure, f", seed {choice['seed']}", choice)
            for structure, choice in zip(found, self.choices(form, count), strict=True)
        ]
        words = f"{count} new {self.task.things}, made up by the model: click on one to go on."
        return Answer(shown, words + _broken(found))

    def steps(self, form: Form) -> Answer:
        atoms = form.atoms

        def draw(callback: Any) -> None:
            self._draw(form, 1, form.label, form.seed, atoms, callback=callback)

        states = self.follow(draw, form.seed)
        found = [self._decoded(state) for state in states.values()]
        shown = [_shown(x, f", {label}") for label, x in zip(states, found, strict=True)]
        words = f"From noise to {_formula(found[-1])}: move the slider."
        return Answer(shown, words, "steps")

    def _decoded(self, state: Tensor) -> Structure:
        """The structure of latents (1, N, C)."""
        mask = state.new_ones(1, state.shape[1]).bool()
        found: Structure = self.pipeline.decode(AtomLatents(state, mask))[0]
        return found

    def reconstruct(self, form: Form) -> Answer:
        structure = self._uploaded(form)
        before, after = self.task.reconstruct(self.pipeline, [structure])
        words = f"Encoded and decoded: {self.task.compare(before, after)}."
        pair = [_shown(before[0], ", yours"), _shown(after[0], ", from its latents")]
        return Answer(pair, words, "row")

    def walk(self, form: Form) -> Answer:
        first = self._draw(form, 1, form.label, form.seed, form.atoms)[0]
        second = self._draw(form, 1, form.other_label, form.other_seed, len(first))[0]
        found = self.pipeline.interpolate(first, second, WALK)
        share = 100 / (WALK - 1)
        shown = [_shown(x, f", {i * share:.0f} %") for i, x in enumerate(found)]
        return Answer(shown, "Each structure lies a little further on the way.", "steps")

    def _uploaded(self, form: Form) -> Structure:
        """The first structure in the visitor's file that the model takes. ValueError if none.

        The file gets a name of ours in a folder of ours.
        """
        if form.upload is None:
            raise ValueError(f"choose a file of yours first: {', '.join(self.accepts)}")
        if form.upload.suffix not in self.accepts:
            raise ValueError(f"expected a file that ends in {' or '.join(self.accepts)}")
        if len(form.upload.content) > _MOST_UPLOAD:
            raise ValueError(f"your file has more than {_MOST_UPLOAD:,} bytes; give one structure")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"upload{form.upload.suffix}"
            path.write_bytes(form.upload.content)
            try:
                return self._first(path)
            except (ValueError, OSError) as error:
                reason = str(error).replace(str(path), "it").replace(path.name, "it")
                raise ValueError(f"your file cannot be used: {reason}") from error

    def _first(self, path: Path) -> Structure:
        reason = f"it holds no {self.task.things}"
        for item in cast(AtomFiles, self.task).records(str(path)):
            if isinstance(item, Structure):
                try:
                    self.pipeline.check([item])
                    return item
                except ValueError as error:
                    reason = str(error)
            elif isinstance(item, Skipped):
                reason = f"{item.name}: {item.reason}"
        raise ValueError(reason)


def _shown(structure: Structure, label: str, choice: dict[str, int | None] | None = None) -> Shown:
    picture = structure_grid([structure], 1, _SIDE)
    return Shown(picture, _formula(structure) + label, to_json(structure), choice)


def to_json(structure: Structure) -> dict[str, Any] | None:
    """Elements, positions and cell as plain values; None if numbers are not finite."""
    if not structure.is_finite:
        return None
    return {
        "elements": [symbol_of(number) for number in structure.numbers.tolist()],
        "positions": structure.positions.round(4).tolist(),
        "cell": None if structure.cell is None else structure.cell.round(4).tolist(),
    }


def _formula(structure: Structure) -> str:
    """The formula, of molecules in Hill's order: carbon, hydrogen, the others by name."""
    if structure.cell is not None:
        return formula(structure)
    counts = Counter(structure.numbers.tolist())
    first = [6, 1] if counts[6] else []
    rest = sorted((n for n in counts if n not in first), key=symbol_of)
    numbers = [n for n in [*first, *rest] if counts[n]]
    return "".join(f"{symbol_of(n)}{counts[n] if counts[n] > 1 else ''}" for n in numbers)


def _broken(found: list[Structure]) -> str:
    bad = sum(not item.is_finite for item in found)
    return f" {bad} of them have an impossible cell and are crossed out." if bad else ""

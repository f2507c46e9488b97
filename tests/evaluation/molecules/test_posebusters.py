"""PoseBusters' ten columns, and what becomes of checks without a result."""

from typing import Any

import numpy as np
import pytest
from tests.evaluation.molecules.examples import ETHYLENE, METHANE, WATER, moved

from openunite.evaluation.molecules import posebusters
from openunite.evaluation.molecules.posebusters import COLUMNS, posebusters_scores

pytest.importorskip("posebusters", reason="needs openunite[molecules-adit]")
pytest.importorskip("openbabel.openbabel", reason="needs openunite[molecules-adit]")


def test_columns_on_small_molecules(capfd: pytest.CaptureFixture[str]) -> None:
    """Two ethylenes far apart fail one check; an invalid molecule is not checked at all.

    Methane passes all but the energy: its reference is too near zero for a ratio.
    """
    lost = moved(WATER, np.full((3, 3), np.nan))
    apart = moved(ETHYLENE, ETHYLENE.positions + 50.0)
    pair = type(ETHYLENE)(
        np.concatenate([ETHYLENE.numbers, apart.numbers]),
        np.concatenate([ETHYLENE.positions, apart.positions]),
    )
    scores = posebusters_scores([METHANE, ETHYLENE, lost, pair])
    assert tuple(scores.columns) == COLUMNS
    assert (scores.validity.hits, scores.validity.total) == (3, 4)
    assert (scores.columns["all_atoms_connected"].hits, scores.overall.hits) == (2, 1)
    assert scores.columns["bond_lengths"].value == 1.0
    assert scores.overall.total == 3
    assert capfd.readouterr() == ("", "")


def test_a_check_without_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves its column, fails the molecule as a whole, and is counted."""
    passed = dict.fromkeys(COLUMNS, True)
    found = [passed, passed | {"internal_energy": None}, passed | {"bond_angles": False}]

    def checks(molecules: list[Any]) -> list[dict[str, bool | None]]:
        return found

    monkeypatch.setattr(posebusters, "posebusters_checks", checks)
    scores = posebusters_scores([METHANE, METHANE, METHANE])
    energy = scores.columns["internal_energy"]
    assert (energy.hits, energy.total) == (2, 2)
    assert (scores.columns["bond_angles"].hits, scores.columns["bond_angles"].total) == (2, 3)
    assert (scores.overall.hits, scores.overall.total, scores.undecided) == (1, 3, 1)


def test_the_part_is_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(posebusters, "adit_molecule", lambda item: seen.append(item))
    numbers: Any = list(range(100))
    assert posebusters_scores(numbers, num_molecules=5).validity.total == 5
    posebusters_scores(numbers, num_molecules=5)
    posebusters_scores(numbers, num_molecules=5, seed=1)
    assert seen[:5] == seen[5:10] != seen[10:]
    assert len(set(seen[:5])) == 5

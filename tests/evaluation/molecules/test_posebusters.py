"""PoseBusters' ten columns, and what becomes of checks without a result."""

from typing import Any

import numpy as np
import pytest
from tests.evaluation.molecules.examples import ETHYLENE, METHANE, WATER, moved

from openunite.evaluation.molecules import posebusters
from openunite.evaluation.molecules.posebusters import COLUMNS, posebusters_scores
from openunite.evaluation.rates import rate

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
    assert tuple(scores) == ("posebusters", *(f"posebusters_{name}" for name in COLUMNS))
    assert scores["posebusters"] == rate(1, 3)
    assert scores["posebusters_all_atoms_connected"] == rate(2, 3)
    assert scores["posebusters_bond_lengths"] == rate(3, 3)
    assert capfd.readouterr() == ("", "")


def test_a_check_without_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves its column, and fails the molecule as a whole."""
    passed = dict.fromkeys(COLUMNS, True)
    found = [passed, passed | {"internal_energy": None}, passed | {"bond_angles": False}]

    def checks(molecules: list[Any]) -> list[dict[str, bool | None]]:
        return found

    monkeypatch.setattr(posebusters, "posebusters_checks", checks)
    scores = posebusters_scores([METHANE, METHANE, METHANE])
    assert scores["posebusters_internal_energy"] == rate(2, 2)
    assert scores["posebusters_bond_angles"] == rate(2, 3)
    assert scores["posebusters"] == rate(1, 3)


def test_the_part_is_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(posebusters, "adit_molecule", lambda item: seen.append(item))
    numbers: Any = list(range(100))
    posebusters_scores(numbers, num_molecules=5)
    posebusters_scores(numbers, num_molecules=5)
    posebusters_scores(numbers, num_molecules=5, seed=1)
    assert seen[:5] == seen[5:10] != seen[10:]
    assert len(set(seen[:5])) == 5

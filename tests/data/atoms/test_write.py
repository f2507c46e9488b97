"""What a file can hold is written, the rest is counted."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.verbs.test_atoms import crystals, molecules

from openunite.data.atoms.structure import Structure
from openunite.data.atoms.write import write_structures
from openunite.data.atoms.xyz import read_xyz
from openunite.data.crystals.readers import read_crystals
from openunite.progress import showing


@pytest.fixture(autouse=True)
def shown() -> Iterator[None]:
    """Lines for a person appear, as they do in commands."""
    with showing():
        yield


def impossible() -> Structure:
    """As a pipeline returns a lattice that no cell can have."""
    return Structure(np.array([11, 17]), np.full((2, 3), np.nan), np.full((3, 3), np.nan))


def test_impossible_crystals_are_left_out_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = [crystals()[0], impossible(), crystals()[1], impossible()]
    assert write_structures(tmp_path / "a.cif", some) == 2
    assert "nan" not in (tmp_path / "a.cif").read_text()
    assert len(read_crystals(tmp_path / "a.cif").structures) == 2
    assert "2 of 4 have an impossible cell" in capsys.readouterr().err
    assert write_structures(tmp_path / "a.xyz", some) == 2
    assert len(list(read_xyz(tmp_path / "a.xyz"))) == 2


def test_the_other_kind_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [crystals()[0], molecules()[0]]
    assert write_structures(tmp_path / "a.cif", both) == 1
    assert "1 of 2 came out as the other kind" in capsys.readouterr().err
    assert write_structures(tmp_path / "a.xyz", both) == 2
    assert capsys.readouterr().err == ""

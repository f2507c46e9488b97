"""Unique and novel crystals."""

import numpy as np
import pytest
from tests.evaluation.crystals.examples import (
    cesium_chloride,
    noisy,
    repeated,
    rock_salt,
    scaled,
    shifted,
)

from openunite.data.atoms.convert import to_pymatgen
from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.matching import structure_matcher
from openunite.evaluation.crystals.novelty import novel_crystals, unique_crystals

pytest.importorskip("pymatgen.analysis.structure_matcher", reason="needs openunite[crystals]")


def test_the_first_of_a_kind_stands_for_it() -> None:
    salt = rock_salt()
    found = unique_crystals(
        [
            salt,
            shifted(salt, [0.2, 0.3, 0.4]),
            rock_salt("K Cl"),
            repeated(salt, 2),
            cesium_chloride(),
            scaled(cesium_chloride(), 1.1),
        ]
    )
    assert found.tolist() == [0, 2, 4]
    assert unique_crystals([]).shape == (0,)


def test_same_groups_as_pymatgen() -> None:
    random = np.random.default_rng(0)
    bases = [rock_salt(), cesium_chloride(), rock_salt("K Cl"), rock_salt("Na Br")]
    crystals = [noisy(bases[i % 4], 0.15 * (i // 4), random) for i in range(16)]
    groups = structure_matcher().group_structures([to_pymatgen(each) for each in crystals])
    assert 4 <= len(groups) < 16
    assert len(unique_crystals(crystals)) == len(groups)


def test_novel_is_what_matches_no_known_crystal() -> None:
    known = [rock_salt(), rock_salt("K Br")]
    crystals = [repeated(rock_salt(), 2), cesium_chloride(), rock_salt("K Cl")]
    assert novel_crystals(crystals, known).tolist() == [False, True, True]
    assert novel_crystals(crystals, []).tolist() == [True, True, True]
    assert novel_crystals([], known).shape == (0,)


def test_a_crystal_that_pymatgen_cannot_read_is_a_kind_of_its_own() -> None:
    salt = rock_salt()
    flat = Structure(salt.numbers, salt.positions, np.diag([5.64, 5.64, 0.0]))
    assert unique_crystals([salt, flat, salt]).tolist() == [0, 1]

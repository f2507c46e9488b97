"""Crystals that packages ship."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from openunite.data.atoms.elements import SYMBOLS, atomic_number
from openunite.data.crystals import packaged
from openunite.data.crystals.dataset import open_crystals
from openunite.data.crystals.readers import read_crystals

pytestmark = pytest.mark.skipif(
    find_spec("jarvis") is None or find_spec("pymatgen") is None,
    reason="jarvis-tools or pymatgen is not installed",
)


def formula(structure) -> dict[str, int]:
    numbers, counts = np.unique(structure.numbers, return_counts=True)
    return {SYMBOLS[n - 1]: int(c) for n, c in zip(numbers, counts, strict=True)}


def test_jarvis():
    found = read_crystals("jarvis").structures
    assert len(found) == len(set(found.names)) == 1069
    assert (found.sizes <= 20).sum() == 439
    salt = found[list(found.names).index("JVASP-23862")]
    assert formula(salt) == {"Na": 1, "Cl": 1}
    assert abs(np.linalg.det(salt.cell)) == pytest.approx(5.64**3 / 4, rel=0.05)
    assert np.diff(salt.fractional, axis=0) % 1 == pytest.approx(np.full((1, 3), 0.5), abs=1e-3)


def test_prototypes():
    first, second = read_crystals("prototypes", progress=False), packaged.read_prototypes(False)
    assert np.array_equal(first.structures.numbers, second.structures.numbers)
    assert np.array_equal(first.structures.positions, second.structures.positions)
    names = [name.split(", decoration")[0] for name in first.structures.names]
    test = {name for name, part in zip(names, first.split, strict=True) if part == 2}
    train = {name for name, part in zip(names, first.split, strict=True) if part == 0}
    assert not {name.split(" (")[0] for name in test} & {name.split(" (")[0] for name in train}
    assert len(test) / (len(test) + len(train)) == pytest.approx(0.1, abs=0.01)


def test_decorations_keep_the_prototype_and_scale_it():
    made = [
        item
        for item in packaged.read_prototypes(False).structures
        if item.name.startswith("AB_cF8_225_a_b ")
    ]
    first = made[0]
    assert formula(first) == {"Na": 1, "Cl": 1}
    assert len({tuple(item.numbers.tolist()) for item in made}) == len(made) > 5
    for item in made:
        assert item.fractional == pytest.approx(first.fractional, abs=1e-9)
        ratio = item.cell[item.cell != 0] / first.cell[item.cell != 0]
        assert ratio == pytest.approx(ratio[0])
        assert formula(item).keys() & {"Cl", "Br"}
        assert 0.8 < ratio[0] < 1.25


def test_replacements():
    def of(symbol: str) -> set[str]:
        return {SYMBOLS[n - 1] for n in packaged._replacements(atomic_number(symbol))}

    assert of("O") == {"O"}
    assert of("S") == {"S", "Se"}
    assert of("Cl") == {"Cl", "Br"}
    assert {"Li", "Na", "K"} <= of("Na")
    assert {"Fe", "Co", "Ni"} <= of("Fe")
    assert not of("Na") & {"Cl", "F", "O", "Ca"}
    assert of("U") == {"U"}


def test_quickstart():
    data = open_crystals("quickstart-crystals", progress=False)
    assert data.skipped == ()
    assert data.max_atoms == 20
    assert len(data.train) > 3000
    assert 0.08 < len(data.test) / (len(data.test) + len(data.train)) < 0.13
    train = {name.name.split(", dec")[0] for name in data.train.structures(range(len(data.train)))}
    test = {name.name.split(", dec")[0] for name in data.test.structures(range(len(data.test)))}
    assert not train & test
    assert any(name.startswith("JVASP") for name in test)
    again = open_crystals("quickstart-crystals", progress=False)
    assert again.fingerprint == data.fingerprint


@pytest.mark.parametrize("source", ["jarvis", "prototypes", "quickstart-crystals"])
def test_missing_packages_are_named(monkeypatch, source):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "pymatgen", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'openunite\[crystals\]'"):
        read_crystals(source, progress=False)

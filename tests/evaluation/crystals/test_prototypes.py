"""The AFLOW prototypes that pymatgen ships, against themselves under noise."""

import gzip
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.evaluation.crystals.examples import noisy

from openunite.data.atoms.convert import from_pymatgen
from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.matching import rms_distances
from openunite.evaluation.crystals.validity import structural_fault

core = pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")

COUNT = 50


def prototypes() -> list[dict[str, Any]]:
    spec = find_spec("pymatgen.analysis.prototypes")
    assert spec is not None
    assert spec.origin is not None
    with gzip.open(Path(spec.origin).with_name("aflow_prototypes.json.gz"), "rt") as file:
        found: list[dict[str, Any]] = json.load(file)
    return found


@pytest.fixture(scope="module")
def crystals() -> list[Structure]:
    """Some of those with up to 20 atoms in the primitive cell."""
    chosen: list[Structure] = []
    for entry in prototypes()[::4]:
        primitive = core.Structure.from_dict(entry["snl"]).get_primitive_structure()
        if len(primitive) <= 20:
            chosen.append(from_pymatgen(primitive.get_reduced_structure(), entry["tags"]["aflow"]))
        if len(chosen) == COUNT:
            return chosen
    return chosen


def test_prototypes_are_structurally_valid(crystals: list[Structure]) -> None:
    assert len(crystals) == COUNT
    assert [structural_fault(each) for each in crystals].count("") >= 0.98 * COUNT


def test_prototypes_match_under_a_tenth_of_an_angstrom(crystals: list[Structure]) -> None:
    random = np.random.default_rng(0)
    found = rms_distances([noisy(each, 0.1, random) for each in crystals], crystals)
    matched = found[np.isfinite(found)]
    assert len(matched) >= 0.99 * len(crystals)
    assert matched.mean() == pytest.approx(0.06, abs=0.01)

"""The metrics on real crystals, against values measured with pymatgen and SMACT themselves.

Reads `mp_crystals/*.npz` (n_atoms, lattice, z, frac) in the folder OPENUNITE_DATA, by default
../shared/data beside the repository. The files hold unreduced cells.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.crystals.examples import noisy

from openunite.data.atoms.convert import to_pymatgen
from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.composition import balances, reduced_composition
from openunite.evaluation.crystals.matching import structure_matcher
from openunite.evaluation.crystals.novelty import unique_crystals
from openunite.evaluation.crystals.report import crystal_report
from openunite.evaluation.crystals.validity import (
    crystal_validity,
    in_angle_range,
    structural_fault,
)

DATA = Path(os.environ.get("OPENUNITE_DATA", Path(__file__).parents[4] / "shared" / "data"))
FOLDER = DATA / "mp_crystals"

core = pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")
pytest.importorskip("smact", reason="needs openunite[crystals]")
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no {FOLDER}; name the folder of data in OPENUNITE_DATA"
)


def crystals(file: str, count: int, *, highest_energy: float = np.inf) -> list[Structure]:
    """`count` drawn at random, not more than `highest_energy` (eV/atom) above the hull."""
    with np.load(FOLDER / file) as data:
        sizes, lattices, numbers, fractional = (
            data[name] for name in ("n_atoms", "lattice", "z", "frac")
        )
        rows = np.arange(len(sizes))
        if np.isfinite(highest_energy):
            rows = rows[data["e_above_hull"] <= highest_energy]
    ends = sizes.astype(int).cumsum()
    found = []
    for i in np.random.default_rng(0).choice(rows, count, replace=False):
        part = slice(ends[i] - sizes[i], ends[i])
        cell = np.array(core.Lattice.from_parameters(*lattices[i]).matrix)
        found.append(Structure(numbers[part].astype(np.int64), fractional[part] @ cell, cell))
    return found


@pytest.fixture(scope="module")
def materials() -> list[Structure]:
    return crystals("mp20sub_le20.npz", 1000, highest_energy=0.08)


def test_nine_of_ten_materials_are_valid(materials: list[Structure]) -> None:
    found = crystal_validity(materials)
    assert found.structural.mean() == 1.0
    assert found.compositional.mean() == pytest.approx(0.90, abs=0.03)
    # A fifth of the cells, which are not reduced, has a sharp or blunt angle.
    assert found.in_angle_range.mean() == pytest.approx(0.79, abs=0.04)


def test_niggli_reduced_cells_pass_the_guard(materials: list[Structure]) -> None:
    for each in materials[:40]:
        reduced = to_pymatgen(each).get_reduced_structure()
        again = Structure(each.numbers, reduced.cart_coords, np.array(reduced.lattice.matrix))
        assert in_angle_range(again)
        assert structural_fault(again) == ""


def test_same_compositions_as_smact(materials: list[Structure]) -> None:
    from smact.screening import smact_validity

    for composition in {reduced_composition(each) for each in materials[:400]}:
        formula = core.Composition({symbol_of(number): n for number, n in composition})
        expected = smact_validity(formula, oxidation_states_set="smact14")
        assert balances(composition) == expected or 61 in dict(composition), formula  # Pm


@pytest.mark.parametrize(
    ("file", "compositional"),
    [
        ("perov5_val_test.npz", 0.99),
        ("carbon24_val_test.npz", 1.0),
        ("wbm_val_le20.npz", 0.89),
    ],
)
def test_validity_of_other_sets(file: str, compositional: float) -> None:
    found = crystal_validity(crystals(file, 400))
    assert found.structural.mean() >= 0.99
    assert found.compositional.mean() == pytest.approx(compositional, abs=0.04)


def test_same_groups_as_pymatgen_where_all_compositions_are_equal() -> None:
    carbon = crystals("carbon24_val_test.npz", 12)
    groups = structure_matcher().group_structures([to_pymatgen(each) for each in carbon])
    assert len(unique_crystals(carbon)) == len(groups)


def test_report_of_slightly_noisy_materials(materials: list[Structure]) -> None:
    """Noise of 0.02 A: every match that the ceiling allows, hardly a novel crystal."""
    reference = materials[:40]
    random = np.random.default_rng(0)
    samples = [noisy(each, 0.02, random) for each in reference]
    metrics = crystal_report(samples, reference, train=reference, reconstructions=samples).metrics
    assert metrics["match_rate"] == pytest.approx(metrics["match_rate_ceiling"], abs=0.03)
    assert metrics["match_rms"] < 0.03
    assert metrics["sample_novelty"] <= 0.05
    assert metrics["real_novelty"] == 0.0
    assert metrics["sample_density_wasserstein"] < 0.2

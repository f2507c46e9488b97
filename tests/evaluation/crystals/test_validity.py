"""What makes a crystal invalid, one fault at a time."""

import subprocess
import sys

import numpy as np
import pytest
from tests.evaluation.crystals.examples import crystal, rock_salt

from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.validity import (
    crystal_validity,
    in_angle_range,
    structural_fault,
)

pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")


def pair(distance: float, edge: float = 4.0) -> Structure:
    return crystal("C C", [[0, 0, 0], [distance / edge, 0, 0]], edge)


def rhombohedral(angle: float) -> np.ndarray:
    """Three edges of 4 A at equal angles."""
    cosine = np.cos(np.radians(angle))
    return 4.0 * np.linalg.cholesky(np.full((3, 3), cosine) + (1.0 - cosine) * np.eye(3))


def test_a_sound_crystal_has_no_fault() -> None:
    assert structural_fault(rock_salt()) == ""


@pytest.mark.parametrize(("distance", "fault"), [(0.5001, ""), (0.4999, "distance")])
def test_distance(distance: float, fault: str) -> None:
    assert structural_fault(pair(distance)) == fault
    assert structural_fault(pair(4.0 - distance)) == fault  # across the border


def test_distance_in_cells_where_a_wrapped_vector_is_not_the_shortest() -> None:
    skewed = np.array([[1.0, 0.0, 0.0], [10.2, 1.0, 0.0], [0.0, 0.0, 5.0]])
    near, far = ([[0.0, 0.0, 0.0], [x, 0.4, 0.0]] for x in (0.0, 0.4))
    assert structural_fault(crystal("C C", near, skewed)) == "distance"  # (0.08, 0.4) A apart
    assert structural_fault(crystal("C C", far, skewed)) == ""  # (0.48, 0.4) A
    needle = np.array([[1e-3, 0.0, 0.0], [7e3, 1e3, 0.0], [-4e3, 10.0, 1e3]])
    assert structural_fault(crystal("C C", [[0.0] * 3, [0.5, 0.0, 0.0]], needle)) == "distance"


@pytest.mark.parametrize(("angle", "inside"), [(50.1, 1), (49.9, 0), (119.0, 1), (30.0, 0)])
def test_acute_angles_are_no_fault_but_outside_the_range_of_adit(angle: float, inside: int) -> None:
    found = crystal("C", [[0, 0, 0]], rhombohedral(angle))
    assert in_angle_range(found) == bool(inside)
    assert structural_fault(found) == ""


@pytest.mark.parametrize(("angle", "inside"), [(129.9, 1), (130.1, 0)])
def test_obtuse_angles_are_no_fault_but_outside_the_range_of_adit(
    angle: float, inside: int
) -> None:
    radians = np.radians(angle)
    cell = np.diag([4.0, 4.0 * np.sin(radians), 4.0])
    cell[1, 0] = 4.0 * np.cos(radians)
    found = crystal("C", [[0, 0, 0]], cell)
    assert in_angle_range(found) == bool(inside)
    assert structural_fault(found) == ""
    assert not in_angle_range(crystal("C", [[0, 0, 0]], cell * np.nan))


@pytest.mark.parametrize(("edge", "fault"), [(0.465, ""), (0.464, "volume")])
def test_volume(edge: float, fault: str) -> None:
    """0.1 cubic Angstrom is an edge of 0.4642; images of one atom may be closer than 0.5 A."""
    assert structural_fault(crystal("C", [[0, 0, 0]], edge)) == fault


def test_a_left_handed_cell_has_a_volume_too() -> None:
    cell = np.diag([4.0, 4.0, -4.0])
    assert structural_fault(crystal("C", [[0, 0, 0]], cell)) == ""


@pytest.mark.parametrize(
    "structure",
    [
        Structure(np.array([], dtype=np.int64), np.zeros((0, 3)), np.eye(3)),
        Structure(np.array([6]), np.full((1, 3), np.nan), np.eye(3)),
        Structure(np.array([6]), np.zeros((1, 3)), np.full((3, 3), np.inf)),
        Structure(np.array([6]), np.zeros((1, 3)), np.diag([4.0, 4.0, 0.0])),
        Structure(np.array([6]), np.zeros((1, 3)), np.diag([4.0, 4.0, 1e5])),
        Structure(np.array([0]), np.zeros((1, 3)), np.eye(3)),
        Structure(np.array([105]), np.zeros((1, 3)), np.eye(3)),
    ],
    ids=["empty", "positions", "cell", "flat", "long", "dummy atom", "element 105"],
)
def test_unconstructible(structure: Structure) -> None:
    assert structural_fault(structure) == "unconstructible"


def test_coplanar_edges_have_no_volume() -> None:
    cell = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [3.0, 3.0, 0.0]])
    assert structural_fault(crystal("C", [[0, 0, 0]], cell)) == "volume"


def test_both_validities() -> None:
    pytest.importorskip("smact", reason="needs openunite[crystals]")
    crowded = crystal("Na Cl", [[0, 0, 0], [0.1, 0, 0]], 4.0)
    unbalanced = crystal("Na Cl Cl", [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0]], 6.0)
    sharp = crystal("Na Cl", [[0, 0, 0], [0.5, 0.5, 0.5]], rhombohedral(40.0))
    found = crystal_validity([rock_salt(), crowded, unbalanced, sharp])
    assert found.faults == ("", "distance", "", "")
    assert found.structural.tolist() == [True, False, True, True]
    assert found.in_angle_range.tolist() == [True, True, True, False]
    assert found.compositional.tolist() == [True, True, False, True]
    assert found.overall.tolist() == [True, False, False, True]


def test_a_molecule_is_an_error_not_an_invalid_crystal() -> None:
    with pytest.raises(ValueError, match=r"water\.sdf without a cell"):
        structural_fault(Structure(np.array([8]), np.zeros((1, 3)), None, "water.sdf"))


def test_imports_nothing_heavy() -> None:
    names = ["validity", "matching", "novelty", "distribution", "reconstruction", "report", "table"]
    imports = "; ".join(f"import openunite.evaluation.crystals.{name}" for name in names)
    check = "heavy = {'pymatgen', 'smact', 'spglib', 'ase', 'torch'} & set(sys.modules)"
    code = f"import sys; {imports}; {check}; assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Cells: matrix, parameters, Niggli reduction, wrapping."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.atoms.samples import make, rock_salt

from openunite.data.atoms import lattice
from openunite.data.atoms.arrays import pack
from openunite.data.atoms.checks import find_faults
from openunite.data.atoms.lattice import (
    cell_from_parameters,
    fractional_of,
    niggli,
    parameters_from_cell,
    reduce_cells,
    wrap,
)


def random_cells(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    lengths = generator.uniform(2.5, 12, (count, 3))
    angles = generator.uniform(60, 110, (count, 3))
    return cell_from_parameters(np.concatenate([lengths, angles], axis=1))


def sheared(cells: np.ndarray, seed: int = 0) -> np.ndarray:
    """Other cells of the same lattices, half of them left-handed."""
    generator = np.random.default_rng(seed)
    change = np.tile(np.eye(3), (len(cells), 1, 1))
    for _ in range(5):
        i, j = generator.permutation(3)[:2]
        change[:, i] += generator.integers(-3, 4, (len(cells), 1)) * change[:, j]
    change[::2] = change[::2, [1, 0, 2]]
    return change @ cells


# Parameters


def test_a_cubic_cell():
    parameters = np.array([2.0, 3.0, 4.0, 90.0, 90.0, 90.0])
    assert cell_from_parameters(parameters) == pytest.approx(np.diag([2, 3, 4]), abs=1e-12)
    assert parameters_from_cell(np.diag([2.0, 3.0, 4.0])).tolist() == parameters.tolist()


def test_a_hexagonal_cell():
    cell = cell_from_parameters(np.array([3.0, 3.0, 5.0, 90.0, 90.0, 120.0]))
    assert cell == pytest.approx(
        np.array([[3, 0, 0], [-1.5, 1.5 * 3**0.5, 0], [0, 0, 5]]), abs=1e-12
    )
    assert np.linalg.det(cell) == pytest.approx(45 * 3**0.5 / 2)


@given(
    st.tuples(*[st.floats(1.0, 30.0)] * 3),
    st.tuples(*[st.floats(65.0, 115.0)] * 3),
)
def test_parameters_to_cell_and_back(lengths, angles):
    parameters = np.array([*lengths, *angles])
    cell = cell_from_parameters(parameters)
    assert parameters_from_cell(cell) == pytest.approx(parameters, abs=1e-6)
    assert np.linalg.det(cell) > 0
    assert cell[0, 1] == cell[2, 0] == cell[2, 1] == 0.0


def test_orientation_is_that_of_pymatgen():
    core = pytest.importorskip("pymatgen.core")
    for cell in random_cells(20):
        expected = core.Lattice.from_parameters(*parameters_from_cell(cell))
        assert cell == pytest.approx(expected.matrix, abs=1e-9)


def test_impossible_angles_are_not_a_number():
    assert np.isnan(cell_from_parameters(np.array([3.0, 3, 3, 150, 20, 20]))).any()


# Wrapping


def test_wrap():
    values = np.array([0.0, 1.0, -0.25, 2.5, -1e-18, 1 - 1e-18, 0.999])
    assert wrap(values).tolist() == [0.0, 0.0, 0.75, 0.5, 0.0, 0.0, 0.999]


@given(st.floats(-1e6, 1e6))
def test_wrap_stays_below_one(value):
    for kind in (np.float32, np.float64):
        wrapped = wrap(np.array([value], dtype=kind))
        assert wrapped.dtype == kind
        assert 0.0 <= wrapped[0] < 1.0


# Reduction


def conditions(cells: np.ndarray) -> np.ndarray:
    """Whether the vectors are the shortest ones, ordered, with all angles acute or all obtuse."""
    lengths = np.linalg.norm(cells, axis=2)
    shifts = np.array([s for s in itertools.product((-2, -1, 0, 1, 2), repeat=3) if any(s)])
    every = np.linalg.norm(shifts @ cells, axis=2)
    shortest = every.min(axis=1) >= lengths[:, 0] - 1e-4
    ordered = (np.diff(lengths, axis=1) >= -1e-4).all(axis=1)
    angles = parameters_from_cell(cells)[:, 3:]
    return shortest & ordered & ((angles < 90.001).all(axis=1) | (angles > 89.999).all(axis=1))


def test_reduced_cells_of_one_lattice_are_one_cell():
    cells = random_cells(300)
    reduced, other = niggli(cells), niggli(sheared(cells))
    assert parameters_from_cell(other) == pytest.approx(parameters_from_cell(reduced), abs=1e-5)
    assert np.linalg.det(other) == pytest.approx(np.abs(np.linalg.det(cells)))
    assert conditions(reduced).all()
    changes = other @ np.linalg.inv(cells)
    assert changes == pytest.approx(np.round(changes), abs=1e-6)


def test_reducing_twice_changes_nothing():
    reduced = niggli(sheared(random_cells(100, seed=1)))
    assert niggli(reduced) == pytest.approx(reduced, abs=0)
    assert niggli(np.zeros((0, 3, 3))).shape == (0, 3, 3)


def test_known_cells():
    a = 4.0
    face = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]) * a
    body = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]) * a
    found = parameters_from_cell(niggli(sheared(np.stack([face, body, np.eye(3) * a]))))
    corner = float(np.degrees(np.arccos(-1 / 3)))
    assert found[0] == pytest.approx([a / 2**0.5] * 3 + [60] * 3)
    assert found[1] == pytest.approx([a * 3**0.5 / 2] * 3 + [corner] * 3)
    assert found[2] == pytest.approx([a] * 3 + [90] * 3)


def test_agrees_with_spglib():
    spglib = pytest.importorskip("spglib")
    cells = sheared(random_cells(100, seed=2))
    expected = np.array([spglib.niggli_reduce(cell) for cell in cells])
    expected = parameters_from_cell(expected)
    assert parameters_from_cell(niggli(cells)) == pytest.approx(expected, abs=1e-4)


def test_conditions_that_contradict_each_other_within_rounding():
    lengths, angles = [5.35958301, 5.359588, 5.3595863], [59.9933162, 59.99341399, 59.99342341]
    found = parameters_from_cell(niggli(cell_from_parameters(np.array([[*lengths, *angles]]))))
    assert found[0] == pytest.approx([5.3596] * 3 + [60] * 3, abs=1e-2)


def test_cells_that_cannot_be_reduced_are_not_a_number(monkeypatch):
    monkeypatch.setattr(lattice, "_MAX_PASSES", 2)
    cells = np.stack([np.eye(3) * 4, sheared(random_cells(1))[0]])
    assert np.isnan(niggli(cells)).all(axis=(1, 2)).tolist() == [False, True]
    faults = find_faults(
        reduce_cells(pack([make("Na", [[0, 0, 0]], cell) for cell in cells]), np.arange(2)),
        elements=None,
        min_atoms=1,
        max_atoms=None,
    )
    assert faults == ["", "has a cell that is not finite or cannot be reduced"]


def test_structures_keep_their_atoms():
    """Distances of all atoms and images are those of the cell that was read, mirrors included."""
    cells = random_cells(4, seed=3)
    cells[:, 1] += cells[:, 0]
    cells[::2] = cells[::2, [2, 1, 0]]  # left-handed
    generator = np.random.default_rng(0)
    items = [make("Na Cl H C", generator.uniform(-4, 4, (4, 3)), cell) for cell in cells]
    before = pack([*items, rock_salt()])
    after = reduce_cells(before, np.arange(5))
    assert after.cells == pytest.approx(
        cell_from_parameters(parameters_from_cell(after.cells)), abs=1e-9
    )
    for old, new in zip(before, after, strict=True):
        assert ((new.fractional > -1e-9) & (new.fractional < 1 + 1e-9)).all()
        assert new.numbers.tolist() == old.numbers.tolist()
        assert _environment(new) == pytest.approx(_environment(old), abs=1e-6)
        assert _handedness(new) == pytest.approx(_handedness(old), abs=1e-6)


def _environment(item) -> np.ndarray:
    """The twelve shortest distances from the first atom."""
    shifts = np.array(list(itertools.product(range(-5, 6), repeat=3))) @ item.cell
    images = (item.positions[:, None] + shifts).reshape(-1, 3) - item.positions[0]
    return np.sort(np.linalg.norm(images, axis=1))[:12]


def _handedness(item) -> float:
    """Volume with sign that the nearest images of atoms 1 to 3 span around atom 0."""
    shifts = np.array(list(itertools.product(range(-5, 6), repeat=3))) @ item.cell
    arms = []
    for other in item.positions[1:4]:
        images = other + shifts - item.positions[0]
        arms.append(images[np.linalg.norm(images, axis=1).argmin()])
    return float(np.linalg.det(np.array(arms))) if len(arms) == 3 else 0.0


def test_only_the_chosen_rows_are_reduced():
    flat = make("Na", [[1, 2, 3]], np.zeros((3, 3)))
    arrays = pack([rock_salt(), flat, rock_salt(6.0)])
    found = reduce_cells(arrays, np.array([0, 2]))
    assert found[1].positions.tolist() == [[1, 2, 3]]
    assert found[1].cell.tolist() == np.zeros((3, 3)).tolist()
    fractional = fractional_of(found, np.array([0, 2]))
    assert fractional.dtype == np.float32
    assert fractional[[0, 1, 3, 4]] == pytest.approx(np.array([[0.0] * 3, [0.5] * 3] * 2), abs=1e-6)
    assert fractional[2].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="without cells"):
        reduce_cells(pack([make("H", [[0, 0, 0]])]), np.array([0]))

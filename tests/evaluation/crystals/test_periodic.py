"""Shortest distances between images."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.crystals.examples import crystal, rock_salt

from openunite.data.atoms.structure import Structure
from openunite.evaluation.crystals.periodic import cell_of, periodic_distances

SHEARS = st.lists(
    st.tuples(st.sampled_from(list(itertools.permutations(range(3), 2))), st.integers(-4, 4)),
    max_size=5,
)


def random_crystal(seed: int, num_atoms: int = 5) -> Structure:
    random = np.random.default_rng(seed)
    cell = random.normal(size=(3, 3)) * random.uniform(0.5, 6.0, size=(3, 1)) + np.eye(3)
    return Structure(np.full(num_atoms, 6), random.normal(size=(num_atoms, 3)) * 20.0, cell)


def by_brute_force(structure: Structure, reach: int) -> np.ndarray:
    cell = cell_of(structure)
    images = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3)), dtype=float)
    fractional = structure.fractional
    between = fractional[:, None] - fractional[None]
    between -= np.round(between)
    vectors = (between[:, :, None] + images) @ cell
    return np.sqrt(np.square(vectors).sum(-1).min(-1))


def test_distances_in_rock_salt() -> None:
    found = periodic_distances(rock_salt(edge=6.0))
    assert np.unique(found[0].round(6)).tolist() == pytest.approx(
        [0.0, 3.0, 6.0 / np.sqrt(2.0), 3.0 * np.sqrt(3.0)], abs=1e-5
    )


def test_distances_across_the_border_of_the_cell() -> None:
    pair = crystal("C C", [[0.05, 0.5, 0.5], [0.95, 0.5, 3.5]], [4.0, 5.0, 6.0])
    assert periodic_distances(pair)[0, 1] == pytest.approx(0.4)


def test_a_wrapped_vector_is_not_the_shortest_in_a_skewed_cell() -> None:
    skewed = np.array([[1.0, 0.0, 0.0], [10.2, 1.0, 0.0], [0.0, 0.0, 5.0]])
    pair = crystal("C C", [[0.0, 0.0, 0.0], [0.4, 0.4, 0.0]], skewed)
    assert periodic_distances(pair)[0, 1] == pytest.approx(
        min(np.hypot(0.4 + 4.08 - 4.0, 0.4), np.hypot(0.4 + 4.08 - 10.2 + 6.0, 0.6))
    )


@pytest.mark.parametrize("seed", range(40))
def test_distances_agree_with_pymatgen(seed: int) -> None:
    core = pytest.importorskip("pymatgen.core", reason="needs openunite[crystals]")
    structure = random_crystal(seed)
    other = core.Structure(cell_of(structure), structure.numbers, structure.fractional)
    np.testing.assert_allclose(periodic_distances(structure), other.distance_matrix, atol=1e-8)


@given(seed=st.integers(0, 10_000), shears=SHEARS)
def test_distances_do_not_depend_on_the_choice_of_cell(
    seed: int, shears: list[tuple[tuple[int, int], int]]
) -> None:
    """The same lattice, by brute force in a fair cell and by the function in a very skewed one."""
    random = np.random.default_rng(seed)
    fair = np.diag(random.uniform(1.0, 4.0, 3)) + random.uniform(-0.5, 0.5, (3, 3))
    skewed = fair.copy()
    for (i, j), times in shears:
        skewed[i] += times * skewed[j]
    positions = random.normal(size=(4, 3)) * 5.0
    expected = by_brute_force(Structure(np.full(4, 6), positions, fair), reach=3)
    found = periodic_distances(Structure(np.full(4, 6), positions, skewed))
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_distances_in_pieces_are_those_of_one_piece_and_need_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    cell = np.array([[9.0, 0.0, 0.0], [4.0, 8.0, 0.0], [1.0, 3.0, 9.0]])
    found = crystal("C " * 150, random.random((150, 3)), cell)
    whole = periodic_distances(found)
    monkeypatch.setattr("openunite.evaluation.crystals.periodic._PAIRS", 1000)
    tracemalloc.start()
    pieces = periodic_distances(found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (pieces == whole).all()
    assert peak < 4e6  # at once they would take 27 * 150^2 * 3 * 8 = 15 MB, twice


@pytest.mark.parametrize("angle", [60.0, 120.0])
def test_hexagonal_cells_in_any_orientation(angle: float) -> None:
    """The vectors of these are on the border between reduced and not, rounding decides."""
    random = np.random.default_rng(0)
    radians = np.radians(angle)
    for _ in range(200):
        turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
        cell = np.array([[3.0, 0, 0], [3.0 * np.cos(radians), 3.0 * np.sin(radians), 0], [0, 0, 5]])
        pair = crystal("C C", [[0.1, 0.9, 0.2], [0.9, 0.1, 0.2]], cell @ turn)
        # (0.8, -0.8) wraps to (-0.2, 0.2): edges of 0.6 A at this angle.
        expected = np.sqrt(2 * 0.6**2 * (1 - np.cos(radians)))
        assert periodic_distances(pair)[0, 1] == pytest.approx(expected)


def test_a_needle_of_a_cell_takes_no_time() -> None:
    cell = np.array([[1e-3, 0.0, 0.0], [7e3, 1e3, 0.0], [-4e3, 10.0, 1e3]])
    pair = crystal("C C", [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]], cell)
    assert periodic_distances(pair)[0, 1] == pytest.approx(5e-4)


def test_a_molecule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"water\.sdf without a cell"):
        cell_of(Structure(np.array([8]), np.zeros((1, 3)), None, "water.sdf"))

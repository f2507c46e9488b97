"""What is wrong with a structure."""

import numpy as np
import pytest
from tests.data.atoms.samples import HCL, METHANE, WATER, make, rock_salt

from openunite.data.atoms.arrays import StructureArrays, offsets_of, pack
from openunite.data.atoms.checks import closest, find_faults

CUBE = np.eye(3) * 3.0


def faults(*items, elements=None, min_atoms=2, max_atoms=None) -> list[str]:
    return find_faults(pack(items), elements=elements, min_atoms=min_atoms, max_atoms=max_atoms)


def distance(*items) -> list[float]:
    return closest(pack(items), np.arange(len(items))).tolist()


def test_sound():
    assert faults(make(*WATER), make(*METHANE), make(*HCL)) == ["", "", ""]
    assert faults(rock_salt(), min_atoms=1) == [""]
    assert faults() == []


def test_extents_that_would_set_the_scale_of_all():
    far = make("H C", [[0, 0, 0], [0, 1e30, 0]])
    assert faults(far, make(*WATER)) == ["extends over more than 10000 Angstrom", ""]
    moved = make(WATER[0], np.array(WATER[1]) + 2e4)
    assert faults(moved) == [""]
    long = make("Na Cl", [[0, 0, 0], [1.5, 0, 0]], np.diag([3.0, 3.0, 1e30]))
    assert faults(long) == ["has a cell with an edge of more than 10000 Angstrom"]
    assert faults(make("Na Cl", [[0, 0, 0], [1.5, 1e9, 0]], CUBE)) == [
        "extends over more than 10000 Angstrom"
    ]


def test_counts():
    one = make("H", [[0, 0, 0]])
    assert faults(one, make(*METHANE), make(*HCL), max_atoms=4) == [
        "has 1 atom, expected at least 2",
        "has 5 atoms, more than max_atoms = 4",
        "",
    ]
    assert faults(one, min_atoms=1) == [""]
    assert faults(make("", np.zeros((0, 3)))) == ["has 0 atoms, expected at least 2"]


def test_elements():
    assert faults(make(*WATER), make(*METHANE), elements=(1, 8)) == [
        "",
        "has the element C, expected H, O",
    ]
    wild = StructureArrays(
        np.array([1, 1, 0, 1, 119, 200], np.uint8),
        np.arange(18.0).reshape(6, 3),
        offsets_of([2, 2, 2]),
        ("a", "b", "c"),
    )
    found = find_faults(wild, elements=None, min_atoms=2, max_atoms=None)
    assert found[0] == ""
    assert found[1:] == [f"has atomic number {n}, expected 1 to 118" for n in (0, 119)]


def test_not_finite():
    for bad in (np.nan, np.inf):
        broken = make("O H H", [[0, 0, 0], [bad, 0, 1], [0, 1, 0]])
        assert faults(make(*WATER), broken, make(*HCL)) == [
            "",
            "has coordinates that are not finite numbers",
            "",
        ]


def test_overlap():
    near = make("C O H", [[0, 0, 0], [0, 5, 0], [0.2, 0.2, 0.2]])
    assert faults(near) == ["has two atoms 0.346 Angstrom apart, they overlap"]
    assert faults(make("H H", [[0, 0, 0], [0, 0, 0.41]])) == [""]


def test_overlap_across_the_boundary():
    near = make("Na Cl", [[0.1, 0, 0], [2.9, 0, 0]], CUBE)
    assert faults(near) == ["has two atoms 0.200 Angstrom apart, they overlap"]
    assert faults(make("Na Cl", [[0.1, 0, 0], [1.5, 0, 0]], CUBE)) == [""]
    far_outside = make("Na Cl", [[0.1, 0, 0], [0.2 + 9.0, 0, -6.0]], CUBE)
    assert faults(far_outside) == ["has two atoms 0.100 Angstrom apart, they overlap"]


def test_an_atom_may_not_overlap_its_own_image():
    thin = make("Na", [[0, 0, 0]], np.diag([0.3, 9, 9]))
    assert faults(thin, min_atoms=1) == ["has two atoms 0.300 Angstrom apart, they overlap"]


def test_a_skewed_cell_needs_its_neighbors():
    # Wrapping alone finds 0.9 here: the vector b - a is short, and the atoms are b - a apart.
    cell = np.array([[3.0, 0, 0], [2.7, 0.5, 0], [0, 0, 3.0]])
    positions = [[0, 0, 0], [0.3 * 0.5 + 0.05, -0.25, 0]]
    shifts = [
        np.array([i, j, k]) @ cell for i in range(-3, 4) for j in range(-3, 4) for k in range(-3, 4)
    ]
    between = np.array(positions[1])
    expected = min(np.linalg.norm(between + shift) for shift in shifts)
    own = min(np.linalg.norm(shift) for shift in shifts if shift.any())
    assert distance(make("Na Cl", positions, cell)) == pytest.approx([min(expected, own)])


def test_cells():
    flat = make("Na Cl", [[0, 0, 0], [1, 1, 1]], [[3, 0, 0], [0, 3, 0], [3, 3, 0]])
    wild = make("Na Cl", [[0, 0, 0], [1, 1, 1]], np.diag([3, 3, np.nan]))
    small = make("Na", [[0, 0, 0]], np.eye(3) * 0.46)
    found = faults(rock_salt(), flat, wild, small, min_atoms=1)
    assert found == [
        "",
        "has a cell of 0 cubic Angstrom, expected 0.1 or more",
        "has a cell that is not finite or cannot be reduced",
        "has a cell of 0.0973 cubic Angstrom, expected 0.1 or more",
    ]


def test_closest_agrees_with_all_pairs():
    generator = np.random.default_rng(0)
    items = [make("H " * n, generator.uniform(0, 4, (n, 3))) for n in (2, 7, 5, 7, 30)]
    for found, item in zip(distance(*items), items, strict=True):
        every = np.linalg.norm(item.positions[:, None] - item.positions, axis=2)
        assert found == pytest.approx(every[every > 0].min())
    assert distance(make("H", [[0, 0, 0]])) == [np.inf]
    assert distance(rock_salt())[0] >= 2.82  # exact only for what overlaps


def test_closest_in_cells_agrees_with_all_images():
    generator = np.random.default_rng(1)
    shifts = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
    for size in (2, 6):
        cell = np.eye(3) * 4 + generator.uniform(-0.5, 0.5, (3, 3))
        item = make("H " * size, generator.uniform(-9, 9, (size, 3)) * 0.3, cell)
        fractional = item.fractional
        between = fractional[:, None] - fractional
        between = between - np.round(between)
        images = ((between[:, :, None] + shifts) @ cell)[~np.eye(size, dtype=bool)]
        assert distance(item) == pytest.approx([np.linalg.norm(images, axis=-1).min()])

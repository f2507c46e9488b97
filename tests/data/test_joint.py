"""Two sources as one: elements, labels, padding, order."""

from pathlib import Path

import numpy as np
import pytest

from openunite.batch import CLASS
from openunite.data.atoms.cif import write_cif
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import write_xyz
from openunite.data.joint import joint_dataset, open_joint, repeated

CELL = np.diag([4.0, 5.0, 6.0])


def water(angle: float) -> Structure:
    arms = [[0, 0, 0], [0.96, 0, 0], [0.96 * np.cos(angle), 0.96 * np.sin(angle), 0]]
    return Structure(np.array([8, 1, 1]), np.array(arms))


def salt(scale: float) -> Structure:
    return Structure(np.array([11, 17]), scale * np.array([[0.0, 0, 0], [2, 2.5, 3]]), scale * CELL)


@pytest.fixture
def sources(tmp_path: Path) -> str:
    write_xyz(tmp_path / "m.xyz", [water(1.5 + i / 100) for i in range(12)])
    write_cif(tmp_path / "c.cif", [salt(1 + i / 100) for i in range(8)])
    return f"{tmp_path / 'm.xyz'},{tmp_path / 'c.cif'}"


def test_elements_are_shared_and_the_dataset_is_the_label(sources: str) -> None:
    data = open_joint(sources, progress=False)
    assert data.elements == (1, 8, 11, 17)
    assert data.max_atoms == 20  # crystals have up to 20 unless max_atoms says otherwise
    assert len(data.train) == len(data.molecules.train) + len(data.crystals.train)
    batch = data.train.batch([0, len(data.train) - 1])
    assert batch.conditions[CLASS].values.tolist() == [0, 1]
    assert batch.data.shape == (2, 3, 10)
    assert batch.valid.sum(dim=1).tolist() == [3, 2] == data.train.sizes[[0, -1]].tolist()
    assert batch.data[0, :, 0].tolist() == [1, 0, 0]
    assert batch.data[1, :, 0].tolist() == [2, 3, 0]
    assert not batch.data[0, :, 4:].any()
    lattice = batch.data[1, 0, 4:].numpy()
    assert np.allclose(lattice[:3] / lattice[0], [1, 1.25, 1.5])
    assert np.allclose(lattice[3:], 90.0)
    histograms = data.size_histogram
    assert [sum(row) for row in histograms] == [len(data.molecules.train), len(data.crystals.train)]
    assert {len(row) for row in histograms} == {21}
    assert [len(item) for item in data.train.structures([0, len(data.train) - 1])] == [3, 2]


def test_a_mixed_list_keeps_its_order() -> None:
    mixed = [salt(1.0), water(1.6), salt(1.1), water(1.7)]
    found = joint_dataset(mixed, (1, 8, 11, 17))
    batch = found.batch(range(4))
    assert batch.conditions[CLASS].values.tolist() == [1, 0, 1, 0]
    assert batch.data[:, 0, 4].tolist() == pytest.approx([4.0, 0.0, 4.4, 0.0])
    assert np.allclose(batch.data[1, :3, 1:4].mean(dim=0), 0.0, atol=1e-6)
    only = joint_dataset(mixed[1::2], (1, 8)).batch([0, 1])
    assert only.conditions[CLASS].values.tolist() == [0, 0]


@pytest.mark.parametrize(("share", "count"), [(0.0, 8), (0.3, 8), (0.45, 10), (0.5, 12)])
def test_the_smaller_set_is_repeated(share: float, count: int) -> None:
    """12 molecules and 8 crystals, and the other way round."""
    for small in (0, 1):
        sizes = (8, 12) if small == 0 else (12, 8)
        order = np.array([(label, i) for label in (0, 1) for i in range(sizes[label])])
        found = repeated(order, share)
        rows = found[found[:, 0] == small, 1]
        assert len(rows) == count
        assert set(np.bincount(rows)) <= {1, 2}
        assert found[found[:, 0] != small, 1].tolist() == list(range(12))
        assert count / len(found) >= share


def test_training_repeats_and_nothing_else_does(sources: str) -> None:
    plain = open_joint(sources, progress=False)
    even = open_joint(sources, least_share=0.5, progress=False)
    batch = even.train.batch(range(len(even.train)))
    assert (
        batch.conditions[CLASS].values.sum() * 2 == len(even.train) == 2 * len(even.molecules.train)
    )
    assert even.train.sizes.tolist() == batch.valid.sum(dim=1).tolist()
    assert len(even.test) == len(plain.test)
    assert even.size_histogram == plain.size_histogram
    with pytest.raises(ValueError, match=r"between 0 and 0\.5, got 0\.6"):
        open_joint(sources, least_share=0.6)


@pytest.mark.parametrize("source", ["qm9", "a,b,c", "qm9,"])
def test_two_sources_are_needed(source: str) -> None:
    with pytest.raises(ValueError, match="takes two sources"):
        open_joint(source)

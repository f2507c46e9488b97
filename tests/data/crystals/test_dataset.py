"""Opened crystals: batches, split, what is skipped."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.atoms.samples import make, rock_salt, same
from tests.data.crystals.test_readers import sizes

from openunite.data.atoms.lattice import cell_from_parameters
from openunite.data.atoms.structure import Structure
from openunite.data.crystals.dataset import open_crystals

DATA = Path(os.environ.get("OPENUNITE_DATA", Path(__file__).parents[4] / "shared" / "data"))
IRON = make("Na", [[0.1, 0.2, 0.3]], np.eye(3) * 3.0)


def content(dataset) -> set[bytes]:
    return {dataset.batch([i]).data.numpy().tobytes() for i in range(len(dataset))}


def test_batch():
    a = 5.0
    wide = make("Na Na Cl", [[0, 0, 0], [1.0, 0, -0.5], [0, 2.5, 9.0]], np.diag([6.0, 7.0, 8.0]))
    data = open_crystals([rock_salt(a), IRON, wide, rock_salt(8.0)], holdout_share=0.25)
    assert data.elements == (11, 17)
    assert data.max_atoms == 20
    assert len(data.size_histogram) == 21
    both = [data.train.batch([i]).data[0] for i in range(3)] + [data.test.batch([0]).data[0]]
    found = {(len(item), bool(item[0, 4] > 5)): item for item in both}
    batch = data.train.batch([0, 1, 2])
    counts = batch.valid.sum(dim=1)
    assert batch.data.shape == (3, int(counts.max()), 10)
    assert batch.data.dtype == torch.float32
    assert not batch.data[~batch.valid].any()
    assert not batch.conditions
    salt, other = found[2, False], found[3, True]
    assert salt[:, 0].tolist() == [0, 1]
    assert salt[:, 1:4].numpy() == pytest.approx(np.array([[0] * 3, [0.5] * 3]), abs=1e-6)
    assert salt[:, 4:].numpy() == pytest.approx(np.array([[a / 2**0.5] * 3 + [60] * 3] * 2))
    assert other[:, 4:].tolist() == [[6, 7, 8, 90, 90, 90]] * 3
    expected = np.array([[0, 0, 0], [1 / 6, 0, 7.5 / 8], [0, 2.5 / 7, 1 / 8]])
    assert other[:, 1:4].numpy() == pytest.approx(expected, abs=1e-6)


def test_batches_give_back_the_structures():
    data = open_crystals(sizes(30))
    batch = data.train.batch(range(28))
    for row, mask, item in zip(
        batch.data.double().numpy(), batch.valid, data.train.structures(range(28)), strict=True
    ):
        atoms = row[mask.numpy()]
        cell = cell_from_parameters(atoms[0, 4:])
        numbers = np.array(data.elements)[atoms[:, 0].astype(int)]
        same(Structure(numbers, atoms[:, 1:4] @ cell, cell), item, 1e-5)
        assert ((atoms[:, 1:4] >= 0) & (atoms[:, 1:4] < 1)).all()


def test_any_cell_of_a_crystal_is_the_same_batch():
    a = rock_salt(5.3)
    change = np.array([[1, 2, 0], [0, 1, -1], [0, 0, -1]])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    b = Structure(a.numbers, (a.positions + 7 * a.cell[1]) @ turn, change @ a.cell @ turn)
    for item in (a, b):
        data = open_crystals([item, IRON], holdout_share=0.5)
        items = (part.batch([0]).data[0] for part in (data.train, data.test))
        found = next(item for item in items if len(item) == 2)
        expected = [[0, 0, 0, 0], [1, 0.5, 0.5, 0.5]]
        first = found[:, :4]
        wrapped = torch.where(first[:, 1:] > 0.999, first[:, 1:] - 1, first[:, 1:])
        assert torch.cat([first[:, :1], wrapped], 1).numpy() == pytest.approx(
            np.array(expected), abs=1e-5
        )
        assert found[0, 4:].numpy() == pytest.approx([5.3 / 2**0.5] * 3 + [60] * 3, rel=1e-5)


def test_items_pickle_and_loader():
    data = open_crystals(sizes(20))
    assert (len(data.train), len(data.test), data.val) == (19, 1, None)
    again = pickle.loads(pickle.dumps(data.train))
    assert torch.equal(again.batch([3, 1]).data, data.train.batch([3, 1]).data)
    assert data.train.batch([]).data.shape == (0, 0, 10)
    with pytest.raises(IndexError):
        data.train.batch([19])


def test_each_fault_is_named_and_counted():
    bad = [
        make("Na Cl", [[0, 0, 0], [0, 0, 0.1]], np.eye(3) * 4, "near"),
        make("Na Cl", [[0, 0, 0], [0, 0, 3.9]], np.eye(3) * 4, "near across the boundary"),
        make("Na", [[0, 0, 0]], np.zeros((3, 3)), "no volume"),
        make("Na", [[0, 0, 0]], np.diag([4, np.inf, 4]), "endless"),
        make("Na", [[0, np.nan, 0]], np.eye(3) * 4, "nowhere"),
        make("C", [[0, 0, 0]], np.eye(3) * 4, "carbon"),
        make("Na " * 21, [[0, 0, 2.0 * i] for i in range(21)], np.diag([4, 4, 42]), "long"),
        make("", np.zeros((0, 3)), np.eye(3), "empty"),
    ]
    data = open_crystals([*sizes(4), *bad], elements=("Na", "Cl"), max_bad_share=0.7)
    reasons = {item.name: item.reason for item in data.skipped}
    assert list(reasons) == [item.name for item in bad]
    for name, part in {
        "near": "0.100 Angstrom apart",
        "near across the boundary": "0.100 Angstrom apart",
        "no volume": "a cell of 0 cubic Angstrom",
        "endless": "not finite",
        "nowhere": "coordinates that are not finite",
        "carbon": "the element C, expected Na, Cl",
        "long": "21 atoms, more than max_atoms = 20",
        "empty": "0 atoms, expected at least 1",
    }.items():
        assert part in reasons[name]
    assert len(data.train) + len(data.test) == 4
    assert torch.isfinite(data.train.batch(range(3)).data).all()
    with pytest.raises(ValueError, match=r"8 of 12 structures in crystals in memory \(66\.67%\)"):
        open_crystals([*sizes(4), *bad], elements=("Na", "Cl"))


def test_single_atoms_are_crystals():
    data = open_crystals([IRON, make("Na", [[0, 0, 0]], np.eye(3) * 3.5)], max_atoms=1)
    assert data.size_histogram == (0, 1)


def test_split_depends_on_content_only():
    items = sizes(40)
    data = open_crystals(items, holdout_share=0.2)
    assert len(data.test) == 8
    turned = open_crystals(items[::-1], holdout_share=0.2)
    assert content(turned.test) == content(data.test)
    assert turned.fingerprint != data.fingerprint
    last_bits = [
        Structure(i.numbers, i.positions * (1 + 1e-15), i.cell * (1 - 1e-15)) for i in items
    ]
    assert open_crystals(last_bits, holdout_share=0.2).fingerprint == data.fingerprint
    moved = [*items[:-1], rock_salt(8.9001)]
    assert open_crystals(moved, holdout_share=0.2).fingerprint != data.fingerprint


def test_copies_fall_on_one_side():
    data = open_crystals(sizes(10) * 4, holdout_share=0.27)
    assert len(data.test) == 8
    assert not content(data.train) & content(data.test)


@pytest.mark.parametrize("options", [{"split": "edm"}, {"max_bad_share": -1}, {"holdout_share": 1}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        open_crystals(sizes(3), **options)


@pytest.mark.skipif(not (DATA / "mp_crystals").is_dir(), reason=f"no mp_crystals below {DATA}")
def test_materials_project():
    data = open_crystals(DATA / "mp_crystals" / "mp20sub_le20.npz", max_e_above_hull=0.08)
    assert len(data.train) + len(data.test) == 17_875
    assert data.skipped == ()
    assert len(data.elements) == 88
    assert data.max_atoms == 20
    parts = [part.batch(range(len(part))).data for part in (data.train, data.test)]
    for part in parts:
        assert ((part[..., 1:4] >= 0) & (part[..., 1:4] < 1)).all()
        lengths = part[:, 0, 4:7]
        assert (lengths.diff(dim=1) > -1e-3).all()

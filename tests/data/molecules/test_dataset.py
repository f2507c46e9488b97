"""Opened molecules: batches, split, what is skipped."""

import os
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.atoms.samples import (
    HCL,
    METHANE,
    WATER,
    make,
    many_molecules,
    same,
    write,
    xyz_text,
)

from openunite.data.atoms.arrays import pack
from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.data.molecules.dataset import edm_split, open_molecules
from openunite.training.loader import make_loader

DATA = Path(os.environ.get("OPENUNITE_DATA", Path(__file__).parents[4] / "shared" / "data"))
HISTOGRAM = [
    *(0, 0, 0, 2, 4, 5, 12, 20, 65, 172, 483, 1053, 2189, 4027, 6758, 10216, 13824, 16969),
    *(17442, 18146, 12403, 13166, 4428, 6362, 712, 1923, 59, 356, 0, 35),
]


def content(dataset) -> set[bytes]:
    return {dataset.batch([i]).data.numpy().tobytes() for i in range(len(dataset))}


# Batches


def test_batch():
    data = open_molecules([make(*WATER), make(*METHANE), make(*HCL), make(*HCL[:1], HCL[1][::-1])])
    assert data.elements == (1, 6, 8, 17)
    assert data.max_atoms == 5
    every = data.train.structures(range(3)) + data.test.structures([0])
    assert sorted(len(item) for item in every) == [2, 2, 3, 5]
    order = np.argsort([-len(item) for item in data.train.structures(range(3))])
    batch = data.train.batch(order)
    sizes = [len(item) for item in data.train.structures(order)]
    assert batch.data.shape == (3, max(sizes), 4)
    assert batch.data.dtype == torch.float32
    assert batch.valid.tolist() == [[k < n for k in range(max(sizes))] for n in sizes]
    assert batch.index.tolist() == order.tolist()
    assert not batch.conditions
    assert batch.index.dtype == torch.int64
    assert not batch.data[~batch.valid].any()
    for row, size, item in zip(batch.data, sizes, data.train.structures(order), strict=True):
        numbers = [data.elements[int(k)] for k in row[:size, 0]]
        assert numbers == item.numbers.tolist()
        centered = item.positions - item.positions.mean(axis=0)
        assert row[:size, 1:].numpy() == pytest.approx(centered, abs=1e-6)
        assert row[:size, 1:].sum(dim=0).abs().max() < 1e-5


def test_far_from_the_origin_nothing_is_lost():
    far = [Structure(m.numbers, m.positions + 1000.0, None, m.name) for m in many_molecules(9)]
    data = open_molecules(far)
    expected = {m.name: m.positions - m.positions.mean(axis=0) for m in many_molecules(9)}
    for i, molecule in enumerate(data.train.structures(range(8))):
        found = data.train.batch([i]).data[0, :, 1:].numpy()
        assert found == pytest.approx(expected[molecule.name], abs=1e-4)


def test_items_and_positions():
    data = open_molecules(many_molecules(20))
    assert (len(data.train), len(data.test), data.val) == (19, 1, None)
    item = data.train.batch([-1])
    assert item.index.tolist() == [18]
    assert item.data.shape == (*item.valid.shape, 4)
    assert item.valid.all()
    assert data.train.batch([]).data.shape == (0, 0, 4)
    assert data.train.batch(torch.tensor([3, 3])).index.tolist() == [3, 3]
    for wrong in (19, -20):
        with pytest.raises(IndexError):
            data.train.batch([wrong])
    assert data.train.sizes.tolist() == [len(s) for s in data.train.structures(range(19))]


def test_batches_do_not_share_memory_with_the_store():
    data = open_molecules(many_molecules(5))
    before = data.train.batch([0]).data.clone()
    data.train.batch([0]).data.zero_()
    assert torch.equal(data.train.batch([0]).data, before)


def test_pickle_and_workers():
    data = open_molecules(many_molecules(12))
    again = pickle.loads(pickle.dumps(data.train))
    assert torch.equal(again.batch([3]).data, data.train.batch([3]).data)
    same(again.structures([3])[0], data.train.structures([3])[0], 0)
    loader = make_loader(data.train, [[i] for i in range(11)], 2, pinned=False)
    assert torch.cat([batch.index for batch in loader]).tolist() == list(range(11))


# What is skipped


def as_text(molecule: Structure) -> tuple[str, object]:
    return " ".join(symbol_of(number) for number in molecule.numbers), molecule.positions


def broken_file(tmp_path) -> Path:
    good = [as_text(molecule) for molecule in many_molecules(30)]
    bad = [
        ("H", [[0, 0, 0]]),
        ("C H", [[0, 0, 0], [0, 0, float("nan")]]),
        ("C H", [[0, 0, 0], [0, 0, 0.1]]),
        ("C " * 40, [[1.5 * i, 0, 0] for i in range(40)]),
        ("Si H", [[0, 0, 0], [0, 0, 1.5]]),
    ]
    return write(tmp_path / "set.xyz", xyz_text(*good[:3], *bad, *good[3:]) + "2\n\nH 0 0 0\n")


def test_each_fault_is_named_and_counted(tmp_path):
    path = broken_file(tmp_path)
    data = open_molecules(path, elements=("H", "C"), max_atoms=29, max_bad_share=0.2)
    assert len(data.train) + len(data.test) == 30
    assert [item.name.split(", line")[0] for item in data.skipped] == [
        f"set.xyz, record {i}" for i in (36, 4, 5, 6, 7, 8)
    ]
    expected = (
        "ends after 1 of 2 atoms",
        "has 1 atom, expected at least 2",
        "not finite",
        "0.100 Angstrom apart",
        "40 atoms, more than max_atoms = 29",
        "the element Si, expected H, C",
    )
    for item, reason in zip(data.skipped, expected, strict=True):
        assert reason in item.reason
    assert data.elements == (1, 6)
    assert data.max_atoms == 29
    assert len(data.size_histogram) == 30


def test_too_many_faults_stop(tmp_path):
    path = broken_file(tmp_path)
    with pytest.raises(ValueError, match=r"5 of 36 structures in set \(13\.89%\)") as error:
        open_molecules(path, elements=("H", "C"))
    for part in ("max_bad_share = 0.001", "set.xyz, record 4, line", "to 0.1389 or more"):
        assert part in str(error.value)
    # Nothing limits elements and size now, and the file's own are taken.
    data = open_molecules(path, max_bad_share=0.2)
    assert len(data.skipped) == 4
    assert data.elements == (1, 6, 14)
    assert data.max_atoms == 40


@pytest.mark.parametrize(
    "options",
    [{"holdout_share": 1.0}, {"holdout_max": 0}, {"max_bad_share": 1.5}, {"split": "random"}],
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        open_molecules(many_molecules(3), **options)


def test_too_few():
    with pytest.raises(ValueError, match="0 usable structures to train on and 1 to test on"):
        open_molecules([make(*WATER)])
    with pytest.raises(ValueError, match="not copies"):
        open_molecules([make(*WATER)] * 3)


# The split


def test_split_depends_on_content_only():
    molecules = many_molecules(60)
    data = open_molecules(molecules, holdout_share=0.2)
    assert len(data.test) == 12
    assert not content(data.train) & content(data.test)
    renamed = [Structure(m.numbers, m.positions, None, f"new {i}") for i, m in enumerate(molecules)]
    again = open_molecules(renamed, holdout_share=0.2)
    assert again.fingerprint == data.fingerprint
    turned = open_molecules(molecules[::-1], holdout_share=0.2)
    assert content(turned.test) == content(data.test)
    assert turned.fingerprint != data.fingerprint  # the order changed, and with it the indices


def test_copies_fall_on_one_side():
    molecules = many_molecules(20) * 4
    data = open_molecules(molecules, holdout_share=0.27)  # 22 of 80: five and a half groups
    assert len(data.test) == 20
    assert not content(data.train) & content(data.test)


def test_own_split(tmp_path):
    for i, name in enumerate(("train", "val", "test")):
        pairs = [as_text(molecule) for molecule in many_molecules(4 + i, i)]
        write(tmp_path / f"{name}.xyz", xyz_text(*pairs))
    data = open_molecules(tmp_path, progress=False)
    assert (len(data.train), len(data.val), len(data.test)) == (4, 5, 6)
    assert sum(data.size_histogram) == 4
    by_content = open_molecules(tmp_path, split="hash", progress=False)
    assert (len(by_content.train), by_content.val, len(by_content.test)) == (14, None, 1)


def test_fingerprint_is_the_same_everywhere():
    molecules = [make(*WATER), make(*METHANE), make(*HCL)]
    assert open_molecules(molecules).fingerprint == FINGERPRINT
    assert open_molecules(molecules, elements=("H", "C", "N", "O", "Cl")).fingerprint != FINGERPRINT
    moved = [*molecules[:2], make("Cl H", [[0, 0, 0], [0, 0, 1.2701]])]
    assert open_molecules(moved).fingerprint != FINGERPRINT


FINGERPRINT = "be8d2cadb575f2059d3ff9dde330a9680d3963780a361a5a3513629401ad4908"


def test_edm_split_needs_qm9():
    with pytest.raises(
        ValueError, match="needs the 130831 molecules of QM9, molecules in memory has 3"
    ):
        open_molecules(many_molecules(3), split="edm")
    split = edm_split()
    assert np.bincount(split).tolist() == [100_000, 17_748, 13_083]
    # numpy's legacy generator is frozen: the first three of its permutation
    order = np.random.RandomState(0).permutation(130_831)
    assert (split[order[:3]] == 0).all()
    assert (split[order[[100_000, 117_747]]] == 1).all()
    assert (split[order[[117_748, -1]]] == 2).all()


@pytest.mark.skipif(not (DATA / "qm9").is_dir(), reason=f"no qm9.npz below {DATA}")
def test_qm9_arrays():
    data = open_molecules(DATA / "qm9" / "qm9.npz")
    check_qm9(data)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("qm9pack") is None, reason="qm9pack is not installed")
def test_qm9_package(cache):
    data = open_molecules("qm9", progress=False)
    check_qm9(data)
    assert [path.suffix for path in cache.iterdir()] == [".npz"]
    stored = pack(data.train.structures(range(3)))
    again = open_molecules("qm9", progress=False)
    assert again.fingerprint == data.fingerprint
    assert np.array_equal(pack(again.train.structures(range(3))).positions, stored.positions)


def check_qm9(data):
    assert (len(data.train), len(data.val), len(data.test)) == (100_000, 17_748, 13_083)
    sizes = np.concatenate([part.sizes for part in (data.train, data.val, data.test)])
    assert np.bincount(sizes).tolist() == HISTOGRAM
    assert sizes.sum() == 2_359_210
    assert data.elements == (1, 6, 7, 8, 9)
    assert data.skipped == ()
    assert data.max_atoms == 29
    assert sum(data.size_histogram) == 100_000
    assert data.fingerprint == QM9_FINGERPRINT


QM9_FINGERPRINT = "90d8f4b0269bc8cca7eca7f79488389670520f2b9bad5b3e485d2fd51e388ab3"

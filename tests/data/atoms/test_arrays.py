"""Many structures in a few arrays."""

import pickle
import zipfile

import numpy as np
import pytest
from tests.data.atoms.samples import HCL, METHANE, WATER, make, rock_salt, same

from openunite.data.atoms.arrays import load_arrays, offsets_of, pack

MOLECULES = [make(*WATER, name="w"), make(*METHANE, name="m"), make(*HCL, name="h")]


def test_sequence():
    arrays = pack(MOLECULES)
    assert (len(arrays), arrays.sizes.tolist(), arrays.cells) == (3, [3, 5, 2], None)
    for found, expected in zip(arrays, MOLECULES, strict=True):
        same(found, expected)
        assert found.name == expected.name
    same(arrays[-1], MOLECULES[2])
    assert [item.name for item in arrays[1:]] == ["m", "h"]
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            arrays[wrong]
    same(pickle.loads(pickle.dumps(arrays))[1], MOLECULES[1])
    assert offsets_of([3, 5, 2]).tolist() == [0, 3, 8, 10]


def test_nothing():
    assert len(pack([])) == 0
    assert list(pack([])) == []


def test_crystals_and_molecules_do_not_mix():
    with pytest.raises(ValueError, match="1 structures with a cell and 1 without"):
        pack([rock_salt(), MOLECULES[0]])


@pytest.mark.parametrize("items", [MOLECULES, [rock_salt(), rock_salt(5.0)]])
def test_save_and_load(tmp_path, items):
    pack(items).save(tmp_path / "a.npz")
    for found, expected in zip(load_arrays(tmp_path / "a.npz"), items, strict=True):
        same(found, expected, 0)
        assert found.name == expected.name


def test_positions_can_be_single_precision(tmp_path):
    pack(MOLECULES, np.float32).save(tmp_path / "a.npz")
    loaded = load_arrays(tmp_path / "a.npz")
    assert loaded.positions.dtype == np.float32
    assert loaded[0].positions.dtype == np.float64


GOOD = {
    "n_atoms": np.array([2, 1], np.uint8),
    "z": np.array([1, 8, 300]),
    "pos": np.zeros((3, 3), np.float32),
}


def test_without_names(tmp_path):
    np.savez(tmp_path / "a.npz", **GOOD)
    loaded = load_arrays(tmp_path / "a.npz")
    assert list(loaded.names) == ["a.npz, record 1", "a.npz, record 2"]
    assert loaded[1].numbers.tolist() == [0]  # not an element: for the checks to refuse


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_atoms": None}, "'n_atoms', one row of integers, got no such array"),
        ({"z": np.zeros(3)}, r"'z', one row of integers, got float64 \(3,\)"),
        ({"n_atoms": np.array([2, 2])}, "'n_atoms' counts 4 atoms but 'z' has 3"),
        ({"n_atoms": np.array([4, -1])}, "'n_atoms' counts 3"),
        ({"pos": np.zeros((3, 2))}, r"'pos', floats of shape \(3, 3\), got float64 \(3, 2\)"),
        ({"cell": np.zeros((1, 3, 3))}, r"'cell', floats of shape \(2, 3, 3\)"),
        ({"names": np.array([{}], dtype=object)}, "without pickles"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, change, message):
    arrays = {key: value for key, value in (GOOD | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_arrays(tmp_path / "a.npz")


def test_sizes_that_a_file_claims_are_checked_before_they_are_believed(tmp_path, monkeypatch):
    huge = np.array([2**62, 2**62, 2**62, 2**62 + 3], np.int64)  # their sum wraps to 3
    np.savez(tmp_path / "a.npz", **(GOOD | {"n_atoms": huge}))
    with pytest.raises(ValueError, match="'n_atoms' counts 18446744073709551619 atoms"):
        load_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }\n" % 10**15
        archive.writestr(
            "pos.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        )
    with pytest.raises(ValueError, match=r"cannot read .*b\.npz"):
        load_arrays(tmp_path / "b.npz")
    monkeypatch.setattr("openunite.files._LARGE", 1000)
    with zipfile.ZipFile(tmp_path / "c.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pos.npy", bytes(10**6))
    with pytest.raises(ValueError, match="claims to hold 1000000 bytes"):
        load_arrays(tmp_path / "c.npz")


@pytest.mark.parametrize(
    "names", [np.array(3.0), np.array(["a", "b"]), np.bytes_("a\nb"), np.ones(5)]
)
def test_names_of_any_kind(tmp_path, names):
    np.savez(tmp_path / "a.npz", **GOOD, names=names)
    found = list(load_arrays(tmp_path / "a.npz").names)
    kept = names.dtype.kind in "US"
    assert found == (["a", "b"] if kept else ["a.npz, record 1", "a.npz, record 2"])


def test_no_npz(tmp_path):
    (tmp_path / "a.npz").write_text("text")
    with pytest.raises(ValueError, match=r"cannot read .*a\.npz"):
        load_arrays(tmp_path / "a.npz")

"""Molecules from any source."""

import gzip
import sys

import numpy as np
import pytest
from tests.data.atoms.samples import (
    HCL,
    METHANE,
    WATER,
    make,
    many_molecules,
    rock_salt,
    same,
    write,
    xyz_text,
)
from tests.data.atoms.test_sdf import V2000

from openunite.data.atoms.arrays import pack
from openunite.data.molecules.qm9 import parse_qm9
from openunite.data.molecules.readers import read_molecules


def test_files(tmp_path):
    for name, text in (
        ("a.sdf", V2000),
        ("a.SD", V2000),
        ("a.mol", V2000),
        ("a.xyz", xyz_text(WATER)),
        ("a.extxyz", xyz_text(WATER)),
    ):
        found = read_molecules(write(tmp_path / name, text))
        same(found.structures[0], make(*WATER))
        assert (found.name, len(found.structures), found.skipped, found.split) == ("a", 1, (), None)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        same(read_molecules(str(tmp_path / f"{name}.gz")).structures[0], make(*WATER))
    assert found.structures.positions.dtype == np.float32


def test_folder(tmp_path):
    write(tmp_path / "b.xyz", xyz_text(METHANE, HCL))
    write(tmp_path / "a" / "c.sdf", V2000)
    write(tmp_path / ".hidden.xyz", xyz_text(HCL))
    write(tmp_path / "notes.txt", "no molecule")
    write(tmp_path / "d.xyz", "broken\n")
    found = read_molecules(tmp_path, progress=False)
    assert [len(item) for item in found.structures] == [3, 5, 2]
    assert found.structures.names[1] == "b.xyz, record 1, line 1"
    assert [item.name for item in found.skipped] == ["d.xyz, record 1, line 1"]


@pytest.mark.parametrize(
    ("files", "split"),
    [
        (["train.xyz", "test.xyz"], [2, 0]),
        (["train.xyz", "val.xyz", "test.xyz"], [2, 0, 1]),
        (["train.xyz", "valid.xyz"], [0, 2]),
        (["train/a.xyz", "train/b.xyz", "test/c.xyz"], [2, 0, 0]),
        (["train.xyz", "test.xyz", "more.xyz"], None),
        (["train.xyz"], None),
        (["a/train.xyz", "a/test.xyz"], None),
    ],
)
def test_a_folder_may_have_its_own_split(tmp_path, files, split):
    for name in files:
        write(tmp_path / name, xyz_text(HCL))
    found = read_molecules(tmp_path, progress=False).split
    assert found is None if split is None else found.tolist() == split


def test_arrays(tmp_path):
    molecules = many_molecules(5)
    pack(molecules).save(tmp_path / "a.npz")
    found = read_molecules(tmp_path / "a.npz")
    assert found.structures.positions.dtype == np.float32
    assert list(found.structures.names) == [item.name for item in molecules]
    for item, expected in zip(found.structures, molecules, strict=True):
        same(item, expected)


def test_lists():
    ase = pytest.importorskip("ase")
    atoms = [ase.Atoms(symbols.split(), positions) for symbols, positions in (WATER, HCL)]
    found = read_molecules(atoms)
    same(found.structures[1], make(*HCL))
    assert list(found.structures.names) == ["molecule 0", "molecule 1"]
    periodic = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=True)
    mixed = read_molecules([make(*WATER, name="w"), periodic])
    assert [item.name for item in mixed.skipped] == ["molecule 1"]
    assert "has a periodic cell, expected a molecule" in mixed.skipped[0].reason
    slab = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=[True, True, False])
    (skipped,) = read_molecules([make(*WATER), slab]).skipped
    assert "is periodic in some directions only" in skipped.reason
    assert list(mixed.structures.names) == ["w"]
    with pytest.raises(ValueError, match=r"molecule 0 \(expected ASE Atoms, .* got a int"):
        read_molecules([1, 2])


def test_crystals_are_skipped(tmp_path):
    from openunite.data.atoms.xyz import write_xyz

    write_xyz(tmp_path / "a.xyz", [rock_salt()])
    with pytest.raises(ValueError, match=r"no molecules that can be read.*periodic.*pbc=.F F F"):
        read_molecules(tmp_path / "a.xyz")
    write_xyz(tmp_path / "a.xyz", [rock_salt(), make(*WATER)])
    (skipped,) = read_molecules(tmp_path / "a.xyz").skipped
    assert skipped.name == "a.xyz, record 1, line 1"
    pack([rock_salt()]).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="expected molecules, got crystals"):
        read_molecules(tmp_path / "a.npz")


def test_a_broken_gzip_is_named(tmp_path):
    whole = gzip.compress(xyz_text(*[METHANE] * 500).encode())
    (tmp_path / "a.xyz.gz").write_bytes(whole[:-40])
    found = read_molecules(tmp_path / "a.xyz.gz")
    assert found.skipped[-1].name == "a.xyz.gz"
    assert "cannot be read" in found.skipped[-1].reason


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("a.xyz", "", ValueError, "a has no molecules"),
        ("a.sdf", "\n\n", ValueError, "a has no molecules"),
        ("a.pdb", "ATOM", ValueError, r"expected molecules as \.sdf.*a\.pdb"),
        ("folder/a.txt", "", ValueError, "has no molecules"),
        ("", "", FileNotFoundError, "no molecules at"),
        ("a.npz", "", ValueError, r"cannot read .*a\.npz"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, name, text, error, message):
    path = tmp_path / "nothing.sdf"
    if name:
        path = write(tmp_path / name, text)
        path = path.parent if "/" in name else path
    with pytest.raises(error, match=message):
        read_molecules(path, progress=False)


def test_empty_list_and_empty_arrays(tmp_path):
    with pytest.raises(ValueError, match="molecules in memory has no molecules"):
        read_molecules([])
    pack([]).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="expected molecules, got none"):
        read_molecules(tmp_path / "a.npz")


CSV = (
    "Index,SMILES,N_atoms,Elements,XYZ_Ang,Dipole_debye\n"
    "1,\"C\",3,\"['C','H','Cl']\",\"[[-0.5,0.,1.E-3],[2,-3.,4],[0.,0.,0.]]\",1.625\n"
    '7,"N",2,"[\'N\',\'H\']","[[0.,0.,0.],[0.,0.,1.]]",0.\n'
)


def test_arrays_with_a_value_for_each_molecule_are_columns(tmp_path):
    pack([make("H", [[0, 0, 0]]), make("C", [[1, 0, 0]])]).save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as plain:
        arrays = dict(plain)
    more = {
        "gap": np.array([0.1, np.nan], dtype=np.float32),
        "kind": np.array(["acid", ""]),
        "year": np.array([1998, 2001]),
        "props": np.array([[1.5, 2.0], [2.5, 3.0]]),
        "prop_names": np.array(["mu", "alpha"]),
        "other": np.zeros(3),
    }
    np.savez(tmp_path / "b.npz", **arrays, **more)
    first, second = read_molecules(tmp_path / "b.npz").structures
    assert first.info == {
        "gap": "0.1", "kind": "acid", "year": "1998", "mu": "1.5", "alpha": "2.0"
    }  # fmt: skip
    assert second.info == {"year": "2001", "mu": "2.5", "alpha": "3.0"}


def test_the_csv_files_of_qm9pack(tmp_path):
    files = [write(tmp_path / "a.csv", CSV), write(tmp_path / "b.csv", CSV)]
    found = parse_qm9(files, progress=False)
    assert list(found.names) == ["qm9 1", "qm9 7"] * 2
    same(found[2], make("C H Cl", [[-0.5, 0, 1e-3], [2, -3, 4], [0, 0, 0]]))
    assert found.sizes.tolist() == [3, 2, 3, 2]
    assert found[2].info == {"Dipole_debye": "1.625"}
    assert found[3].info == {"Dipole_debye": "0.0"}
    found.save(tmp_path / "again.npz")
    again = read_molecules(tmp_path / "again.npz").structures
    assert [item.info for item in again] == [item.info for item in found]
    write(tmp_path / "a.csv", CSV.replace("[2,-3.,4]", "[2,-3.]"))
    with pytest.raises(ValueError, match=r"a\.csv, line 2: 3 elements but 8 coordinates"):
        parse_qm9(files, progress=False)


def test_qm9_without_its_package(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(ImportError, match=r"qm9pack: pip install 'openunite\[molecules\]'"):
        read_molecules("qm9")

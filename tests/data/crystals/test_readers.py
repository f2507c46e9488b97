"""Crystals from any source."""

import csv
import gzip
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.data.atoms.samples import HCL, make, rock_salt, same, write
from tests.data.atoms.test_cif import P1, in_axes

from openunite.data.atoms.arrays import pack
from openunite.data.atoms.cif import cif_text
from openunite.data.atoms.convert import to_ase, to_pymatgen
from openunite.data.atoms.lattice import parameters_from_cell
from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import write_xyz
from openunite.data.crystals.dataset import open_crystals
from openunite.data.crystals.readers import read_crystals


def sizes(count: int) -> list[Structure]:
    """Rock salt of different lattice constants."""
    return [rock_salt(5.0 + 0.1 * i) for i in range(count)]


def write_csv(path: Path, cifs: list[str], **columns: list[str]) -> Path:
    """A table as pandas writes those of MP-20: an unnamed index, then the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *columns, "cif"])
        for i, cif in enumerate(cifs):
            writer.writerow([i, *(values[i] for values in columns.values()), cif])
    return path


def test_csv(tmp_path):
    cifs = [cif_text(item, "x") for item in sizes(3)]
    path = write_csv(tmp_path / "a.csv", cifs, material_id=["mp-1", "mp-2", "mp-3"])
    found = read_crystals(path)
    assert (found.name, found.skipped, found.split) == ("a", (), None)
    for item, expected in zip(found.structures, sizes(3), strict=True):
        same(item, in_axes(expected), 1e-6)
    lines = cifs[0].count("\n")
    assert list(found.structures.names) == [
        "a.csv, line 2 (mp-1)",
        f"a.csv, line {3 + lines} (mp-2)",
        f"a.csv, line {4 + 2 * lines} (mp-3)",
    ]
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(read_crystals(tmp_path / "b.csv.gz").structures) == 3


def test_a_broken_row_is_named(tmp_path):
    cif = cif_text(rock_salt(), "x")
    path = write_csv(
        tmp_path / "a.csv", [cif, "", cif.replace("Na ", "Xx ").replace("Na0", "X"), cif * 2, cif]
    )
    found = read_crystals(path)
    assert len(found.structures) == 2
    start = 2 + cif.count("\n") + 1
    assert found.skipped[0].name == f"a.csv, line {start}"
    assert "expected a CIF" in found.skipped[0].reason
    assert "unknown element 'Xx'" in found.skipped[1].reason
    assert "expected one crystal in the CIF, got 2" in found.skipped[2].reason


def test_csv_without_the_column(tmp_path):
    path = write(tmp_path / "a.csv", "id,text\n1,x\n")
    with pytest.raises(ValueError, match=r"a\.csv: expected a column 'cif', got id, text"):
        read_crystals(path)
    with pytest.raises(ValueError, match="expected a column 'cif', got none"):
        read_crystals(write(tmp_path / "b.csv", ""))
    with pytest.raises(ValueError, match="a has no crystals"):
        read_crystals(write(tmp_path / "a.csv", "id,cif\n"))


def test_energies(tmp_path):
    cifs = [cif_text(item, "x") for item in sizes(4)]
    path = write_csv(tmp_path / "a.csv", cifs, e_above_hull=["0.0", "0.09", "", "0.08"])
    found = read_crystals(path, max_e_above_hull=0.08)
    assert len(found.structures) == 2
    (unknown,) = found.skipped
    assert unknown.reason == "has no e_above_hull"
    assert "a.csv, line " in unknown.name
    with pytest.raises(ValueError, match="expected a column 'e_above_hull'"):
        read_crystals(write_csv(tmp_path / "b.csv", cifs), max_e_above_hull=0.08)
    with pytest.raises(ValueError, match="a list has no e_above_hull"):
        read_crystals(sizes(2), max_e_above_hull=0.08)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["cif", "CIF", "cif_str", "structure"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_tables_of_other_programs(tmp_path, delimiter, column, encoding):
    with (tmp_path / "a.csv").open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["material_id", column])
        writer.writerow(["mp-1", cif_text(rock_salt(), "x")])
    (found,) = read_crystals(tmp_path / "a.csv").structures
    same(found, in_axes(rock_salt()), 1e-6)
    assert found.name == "a.csv, line 2 (mp-1)"


def test_cells_with_escaped_line_breaks_and_json(tmp_path):
    pymatgen = {
        "lattice": {"matrix": rock_salt().cell.tolist()},
        "sites": [
            {"species": [{"element": name, "occu": 1}], "abc": [place] * 3}
            for name, place in (("Na", 0.0), ("Cl", 0.5))
        ],
    }
    jarvis = {
        "lattice_mat": rock_salt().cell.tolist(),
        "elements": ["Na", "Cl"],
        "coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
        "cartesian": False,
    }
    mixed = json.loads(json.dumps(pymatgen))
    mixed["sites"][0]["species"][0]["occu"] = 0.5
    cells = [cif_text(rock_salt(), "x").replace("\n", "\\n"), *map(json.dumps, (pymatgen, jarvis))]
    bad = [json.dumps(mixed), "{", '{"a": 1}', '{"a":' * 100_000, '{"lattice": 3}']
    found = read_crystals(write_csv(tmp_path / "a.csv", cells + bad))
    same(found.structures[0], in_axes(rock_salt()), 1e-6)
    for item in found.structures[1:]:
        same(item, rock_salt(), 1e-9)
    assert len(found.structures) == 3
    assert len(found.skipped) == len(bad)
    assert "site 0 is occupied by" in found.skipped[0].reason
    assert "a structure as pymatgen or JARVIS write it" in found.skipped[2].reason


def test_zip_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "generated.zip", "w") as archive:
        for i, item in enumerate(sizes(2)):
            archive.writestr(f"gen_{i}.cif", cif_text(item, "x"))
        archive.writestr("../outside.cif", cif_text(rock_salt(7.0), "x"))
    found = read_crystals(tmp_path / "generated.zip", progress=False)
    assert found.name == "generated"
    assert list(found.structures.names) == ["gen_0.cif", "gen_1.cif", "outside.cif"]
    assert not (tmp_path / "outside.cif").exists()
    with pytest.raises(ValueError, match=r"cannot read .*b\.zip as \.zip"):
        read_crystals(write(tmp_path / "b.zip", "nothing"))


def test_archives_are_refused_by_the_size_they_claim(tmp_path, monkeypatch):
    monkeypatch.setattr("openunite.data.atoms.files._LARGEST_ARCHIVE", 100)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.cif", " " * 1000)
    with pytest.raises(ValueError, match="holds 1000 bytes; unpack it"):
        read_crystals(tmp_path / "a.zip")


def test_sources_in_which_nothing_can_be_read_say_why(tmp_path):
    path = write(tmp_path / "a.csv", "cif\nrubbish\n")
    for read in (read_crystals, open_crystals):
        with pytest.raises(ValueError, match=r"no crystals that can be read: a\.csv, line 2 \(exp"):
            read(path)


def test_texts_that_are_too_large_cost_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("openunite.data.atoms.files._LONGEST_TEXT", 2000)
    monkeypatch.setattr("openunite.data.crystals.readers._LONGEST_FIELD", 2000)
    write(tmp_path / "a.cif", cif_text(rock_salt(), "x"))
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress(b" " * 5000))
    found = read_crystals(tmp_path, progress=False)
    assert [item.name for item in found.structures] == ["a.cif"]
    assert "a text of more than 2000 characters" in found.skipped[0].reason
    write_csv(tmp_path / "table" / "c.csv", [cif_text(rock_salt(), "x"), " " * 5000])
    found = read_crystals(tmp_path / "table", progress=False)
    assert len(found.structures) == 1
    assert "field larger than field limit" in found.skipped[0].reason


def test_entries_that_are_no_files_cost_only_themselves(tmp_path):
    write(tmp_path / "a.cif", cif_text(rock_salt(), "x"))
    (tmp_path / "b.cif").symlink_to("/dev/zero")
    (tmp_path / "c.cif").symlink_to("c.cif")
    os.mkfifo(tmp_path / "d.cif")
    found = read_crystals(tmp_path, progress=False)
    assert len(found.structures) == 1
    assert [item.name for item in found.skipped] == ["b.cif", "c.cif", "d.cif"]
    assert {item.reason for item in found.skipped} == {"is no file"}


def test_folder_of_cifs(tmp_path):
    for i, item in enumerate(sizes(3)):
        write(tmp_path / "deep" / f"{i}.cif", cif_text(item, "x"))
    write(tmp_path / "id_prop.csv", "0,1.5\n")  # properties, as some codes put them beside CIFs
    write(tmp_path / "broken.cif", "data_x")
    write(tmp_path / "z.cif.gz", "")
    found = read_crystals(tmp_path, progress=False)
    assert [item.name for item in found.structures] == ["deep/0.cif", "deep/1.cif", "deep/2.cif"]
    assert [item.name for item in found.skipped] == ["broken.cif", "z.cif.gz"]
    assert found.split is None


def test_folder_of_tables_has_a_split(tmp_path):
    for i, name in enumerate(("test", "train", "val")):
        write_csv(tmp_path / f"{name}.csv", [cif_text(item, "x") for item in sizes(i + 1)])
    found = read_crystals(tmp_path, progress=False)
    assert found.split.tolist() == [2, 0, 0, 1, 1, 1]


def test_xyz(tmp_path):
    write_xyz(tmp_path / "a.extxyz", [*sizes(2), make(*HCL)])
    found = read_crystals(tmp_path / "a.extxyz")
    same(found.structures[1], sizes(2)[1], 1e-6)
    assert "no periodic cell" in found.skipped[0].reason


def test_lists():
    pytest.importorskip("pymatgen.core")
    pytest.importorskip("ase")
    item = rock_salt()
    found = read_crystals([to_pymatgen(item), to_ase(item), item, to_pymatgen(make(*HCL))])
    for read in found.structures:
        same(read, item, 1e-9)
    assert list(found.structures.names) == ["crystal 0", "NaCl", "NaCl"]
    assert [(s.name, s.reason) for s in found.skipped] == [
        ("crystal 3", "has no periodic cell, expected a crystal")
    ]
    with pytest.raises(ValueError, match="pymatgen structures, got a str"):
        read_crystals(["NaCl"])
    with pytest.raises(ValueError, match="has no crystals"):
        read_crystals([])


def test_disordered_sites_are_skipped():
    core = pytest.importorskip("pymatgen.core")
    mixed = core.Structure(core.Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    found = read_crystals([mixed, rock_salt()])
    assert "exactly one element" in found.skipped[0].reason


def arrays() -> dict[str, np.ndarray]:
    return {
        "n_atoms": np.array([2, 1], np.uint8),
        "z": np.array([11, 17, 26], np.uint8),
        "lattice": np.array([[4.0, 4, 4, 60, 60, 60], [2.9, 2.9, 2.9, 90, 90, 90]]),
        "frac": np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 1.5, -0.25]]),
        "ids": np.array(["mp-1", "mp-2"]),
        "e_above_hull": np.array([0.0, 0.5]),
    }


def test_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    found = read_crystals(tmp_path / "a.npz").structures
    assert list(found.names) == ["a.npz, record 1 (mp-1)", "a.npz, record 2 (mp-2)"]
    assert found[0].numbers.tolist() == [11, 17]
    assert parameters_from_cell(found[0].cell) == pytest.approx(arrays()["lattice"][0])
    assert found[0].fractional == pytest.approx(arrays()["frac"][:2])
    assert found[1].fractional == pytest.approx(arrays()["frac"][2:])
    some = read_crystals(tmp_path / "a.npz", max_e_above_hull=0.1).structures
    assert list(some.names) == ["a.npz, record 1 (mp-1)"]
    same(some[0], found[0], 0)


def test_saved_arrays(tmp_path):
    pack(sizes(2)).save(tmp_path / "a.npz")
    for item, expected in zip(read_crystals(tmp_path / "a.npz").structures, sizes(2), strict=True):
        same(item, expected, 0)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"lattice": np.zeros((2, 5))}, {}, r"'lattice', floats of shape \(2, 6\)"),
        ({"frac": np.zeros((2, 3))}, {}, r"'frac', floats of shape \(3, 3\)"),
        ({"frac": None}, {}, "needs 'pos'"),
        ({"frac": None, "pos": np.zeros((3, 3))}, {}, "needs 'lattice' and 'frac'"),
        ({"e_above_hull": None}, {"max_e_above_hull": 0.1}, "needs 'e_above_hull'"),
        ({}, {"max_e_above_hull": -1.0}, "has no crystals"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, change, options, message):
    found = {key: value for key, value in (arrays() | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **found)
    with pytest.raises(ValueError, match=message):
        read_crystals(tmp_path / "a.npz", **options)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "a.poscar",
            ValueError,
            r"expected crystals as \.cif.*ase convert .*a\.poscar .*a\.ext",
        ),
        ("", FileNotFoundError, "no crystals at .*or one of jarvis, prototypes"),
        ("folder/a.txt", ValueError, r"has no crystals: expected files of \.cif.*, got 1 of \.txt"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path, name, error, message):
    path = tmp_path / "nothing"
    if name:
        path = write(tmp_path / name, P1)
        path = path.parent if "/" in name else path
    with pytest.raises(error, match=message):
        read_crystals(path, progress=False)

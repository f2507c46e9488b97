"""xyz and extended xyz, as this library and other programs write them."""

import gzip
import time

import numpy as np
import pytest
from tests.data.atoms.samples import (
    HCL,
    METHANE,
    WATER,
    make,
    rock_salt,
    same,
    write,
    xyz_text,
)

from openunite.data.atoms.structure import Structure
from openunite.data.atoms.xyz import element_of, read_xyz, to_number, write_xyz
from openunite.data.holdout import Skipped
from openunite.data.molecules.readers import read_molecules


def read_text(tmp_path, text: str) -> list[Structure | Skipped]:
    return list(read_xyz(write(tmp_path / "a.xyz", text)))


def test_frames(tmp_path):
    found = read_text(tmp_path, xyz_text(WATER, METHANE, HCL, comment="a comment = here"))
    for item, expected in zip(found, (WATER, METHANE, HCL), strict=True):
        same(item, make(*expected))
    assert [item.name for item in found] == [
        "a.xyz, record 1, line 1",
        "a.xyz, record 2, line 6",
        "a.xyz, record 3, line 13",
    ]


def test_other_programs(tmp_path):
    text = (
        "\ufeff  2  \r\n\r\n  6   0.0  0.0D+00  -1.0d-1  0.25 7\r\n  o1\t1.2*^0 0. 1.e-1  x\r\n\r\n"
        "1\ncomment\nCL 1 2 3\n\n\n"
    )
    first, second = read_text(tmp_path, text)
    same(first, make("C O", [[0, 0, -0.1], [1.2, 0, 0.1]]))
    same(second, make("Cl", [[1, 2, 3]]))


def test_raw_qm9(tmp_path):
    frame = (
        "2\ngdb 1\t157.7\t0.\t13.21\t\nC\t-0.0126\t 1.0858\t 6.8*^-6\t-0.53\n"
        "H\t 0.0021\t-0.006\t 0.0019\t 0.13\n1341.307\t1341.3284\nC\tC\t\nInChI=1S/CH4\tInChI\n"
    )
    found = read_text(tmp_path, frame * 2)
    for item in found:
        same(item, make("C H", [[-0.0126, 1.0858, 6.8e-6], [0.0021, -0.006, 0.0019]]), 1e-9)
    assert len(found) == 2


def test_extended(tmp_path):
    lattice = 'Lattice="2 0 0 0 3 0 0 0 4"'
    atoms = "0.5 0.5 0.5 9 Na\n1.5 0.5 0.5 9 Cl\n"
    columns = "Properties=pos:R:3:tag:I:1:species:S:1"
    expected = make("Na Cl", [[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]], np.diag([2, 3, 4]))
    for pbc in ("", ' pbc="T T T"', " pbc=T", ' pbc="1 1 1"'):
        (found,) = read_text(tmp_path, f"2\n{lattice} {columns} energy=-1.0{pbc}\n{atoms}")
        same(found, expected)
    (found,) = read_text(tmp_path, f"2\n{lattice} {columns} pbc='F F F'\n{atoms}")
    assert found.cell is None
    (found,) = read_text(tmp_path, f"2\nenergy=1.0 name=x {columns}\n{atoms}")
    assert found.cell is None
    for pbc in ("T F F", "1 1 0"):
        (found,) = read_text(tmp_path, f"2\n{lattice} {columns} pbc='{pbc}'\n{atoms}")
        assert f"some directions only (pbc {pbc})" in found.reason
    (found,) = read_text(tmp_path, f"2\nLattice=[[2,0,0],[0,3,0],[0,0,4]] {columns}\n{atoms}")
    same(found, expected)


def test_broken_frames_are_named_and_the_rest_is_read(tmp_path):
    good = xyz_text(HCL)
    text = good + "2\n\nH 0 0 0\nC zero 0 1\n" + good + "1\n\nXx 1 1 1\n" + "2\n\nH 0 0\nH 0 0 1\n"
    found = read_text(tmp_path, text + good + "3\n\nH 0 0 0\n")
    assert [isinstance(item, Structure) for item in found] == [1, 0, 1, 0, 0, 1, 0]
    reasons = [item.reason for item in found if isinstance(item, Skipped)]
    assert "line 8" in reasons[0]
    assert "'C zero 0 1'" in reasons[0]
    assert "unknown element 'Xx'" in reasons[1]
    assert "three coordinates" in reasons[2]
    assert "ends after 1 of 3 atoms" in reasons[3]
    assert found[1].name == "a.xyz, record 2, line 5"


def test_a_wrong_count_costs_one_frame(tmp_path):
    found = read_text(tmp_path, xyz_text(HCL).replace("2\n", "9\n") + xyz_text(HCL, WATER))
    assert [isinstance(item, Structure) for item in found] == [0, 1, 1]
    assert "line 5" in found[0].reason
    same(found[1], make(*HCL))
    huge = read_text(tmp_path, xyz_text(HCL).replace("2\n", "999999999\n"))
    assert "after 2 of 999999999 atoms" in huge[0].reason


def test_a_count_that_is_too_small_costs_one_frame(tmp_path):
    for before in ("", xyz_text(HCL)):
        text = before + xyz_text(WATER).replace("3\n", "2\n") + xyz_text(WATER)
        *first, broken, good = read_text(tmp_path, text)
        assert len(first) == bool(before)
        assert "has more atoms than the 2 that it announces" in broken.reason
        same(good, make(*WATER))


def test_counts_that_no_file_can_have_cost_one_frame(tmp_path):
    for count in ("1" + 30 * "0", "9" * 5000):
        broken, good = read_text(tmp_path, f"{count}\n\nH 0 0 0\n" + xyz_text(HCL))
        assert "expected a number of atoms, got '" in broken.reason
        assert len(broken.reason) < 100
        same(good, make(*HCL))
    (broken,) = read_text(tmp_path, f"1\nProperties=species:S:{'9' * 5000}:pos:R:3\nH 0 0 0\n")
    assert "expected a number of columns" in broken.reason
    (broken,) = read_text(tmp_path, f"1\n\n{'9' * 5000} 0 0 0\n")
    assert "unknown element" in broken.reason


def test_rows_that_begin_with_their_index_are_refused(tmp_path):
    rows = "1 8 0.0 0.0 0.1\n2 1 0.0 0.7 -0.4\n3 1 0.0 -0.7 -0.4\n"
    broken, good = read_text(tmp_path, f"3\n\n{rows}" + xyz_text(HCL))
    assert "its first column counts the atoms" in broken.reason
    same(good, make(*HCL))
    charges = "1 0.0 0.0 0.1 7\n2 0.0 0.7 -0.4 8\n"  # hydrogen and helium
    (found,) = read_text(tmp_path, f"2\n\n{charges}")
    assert found.numbers.tolist() == [1, 2]


@pytest.mark.parametrize("text", ["a", "a={ ", "a=[ ", 'a="', "a ", " ", "a=' "])
def test_comments_are_read_in_linear_time(tmp_path, text):
    start = time.perf_counter()
    (found,) = read_text(tmp_path, f"1\n{text * (300_001 // len(text))}\nH 0 0 0\n")
    assert time.perf_counter() - start < 5.0
    assert len(found) == 1


def test_bad_frames_are_passed_in_linear_time(tmp_path):
    start = time.perf_counter()
    found = read_text(tmp_path, "2\n\nH 0 0 0\nX y z 0\n" * 40_000)
    assert time.perf_counter() - start < 20.0
    assert len(found) == 40_000
    assert all(isinstance(item, Skipped) for item in found)


def test_a_line_without_end_is_refused_before_it_is_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("openunite.data.atoms.files._LONGEST_LINE", 1000)
    path = tmp_path / "a.xyz.gz"
    path.write_bytes(gzip.compress(xyz_text(HCL).encode() + b" " * 5000))
    found = read_molecules(path)
    same(found.structures[0], make(*HCL))
    assert "a line of more than 1000 characters" in found.skipped[0].reason


def test_what_is_no_element_is_not_written_and_leaves_the_old_file(tmp_path):
    path = write(tmp_path / "a.xyz", "old")
    ghost = Structure(np.array([0]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="atomic number from 1 to 118, got 0"):
        write_xyz(path, [make(*HCL), ghost])
    assert path.read_text() == "old"


def test_a_lost_count_line_costs_one_frame(tmp_path):
    found = read_text(tmp_path, "two\n\nH 0 0 0\nH 0 0 1\n" + xyz_text(HCL, WATER))
    assert [item.name for item in found] == [
        "a.xyz, record 1, line 1",
        "a.xyz, record 2, line 5",
        "a.xyz, record 3, line 9",
    ]
    assert isinstance(found[0], Skipped)
    assert "expected a number of atoms, got 'two'" in found[0].reason
    same(found[1], make(*HCL))
    (only,) = read_text(tmp_path, "not an xyz file\nat all\n")
    assert isinstance(only, Skipped)


@pytest.mark.parametrize(
    ("comment", "reason"),
    [('Lattice="1 0 0 0 1 0"', "nine numbers"), ("Properties=mass:R:1", "species and pos")],
)
def test_broken_comment(tmp_path, comment, reason):
    broken, good = read_text(tmp_path, f"1\n{comment}\nH 0 0 0\n" + xyz_text(HCL))
    assert reason in broken.reason
    same(good, make(*HCL))


def test_nan_is_read_for_the_checks_to_refuse(tmp_path):
    (found,) = read_text(tmp_path, "1\n\nH nan inf 0\n")
    assert np.isnan(found.positions[0, 0])


def test_gzip_and_empty(tmp_path):
    path = tmp_path / "a.xyz.gz"
    path.write_bytes(gzip.compress(xyz_text(WATER).encode()))
    same(next(read_xyz(path)), make(*WATER))
    assert read_text(tmp_path, "\n\n") == []


def test_round_trip(tmp_path):
    molecules, crystals = [make(*WATER, name="a\nb"), make(*HCL)], [rock_salt()]
    for items in (molecules, crystals):
        write_xyz(tmp_path / "a.xyz", items)
        for found, expected in zip(read_xyz(tmp_path / "a.xyz"), items, strict=True):
            same(found, expected, 1e-7)


def test_ase_reads_what_is_written_and_the_other_way_round(tmp_path):
    io = pytest.importorskip("ase.io")
    items = [make(*WATER), make(*METHANE)]
    write_xyz(tmp_path / "a.xyz", items)
    read = io.read(tmp_path / "a.xyz", index=":")
    assert [str(atoms.symbols) for atoms in read] == ["OH2", "CH4"]
    write_xyz(tmp_path / "b.xyz", [rock_salt()])
    crystal = io.read(tmp_path / "b.xyz")
    assert crystal.pbc.all()
    assert crystal.cell[:] == pytest.approx(rock_salt().cell)
    assert crystal.positions == pytest.approx(rock_salt().positions)
    for form in ("xyz", "extxyz"):
        io.write(tmp_path / "c.xyz", read, format=form)
        for found, expected in zip(read_xyz(tmp_path / "c.xyz"), items, strict=True):
            same(found, expected)
    crystal.info["energy"], crystal.arrays["forces"] = -3.5, crystal.positions * 2
    io.write(tmp_path / "d.extxyz", crystal)
    same(next(read_xyz(tmp_path / "d.extxyz")), rock_salt())


def test_numbers_and_labels():
    assert [to_number(text) for text in ("1", "-.5", "2.", "1D-3", "1.5*^-3", "3e2")] == [
        *(1.0, -0.5, 2.0, 0.001, 0.0015, 300.0)
    ]
    assert [element_of(label) for label in ("C", "c", "CL", "C12", "17", "D", "Na3")] == [
        *(6, 6, 17, 6, 17, 1, 11)
    ]
    for wrong in ("", "0", "119", "Xx", "C-1", "123abc"):
        with pytest.raises(ValueError, match="unknown element"):
            element_of(wrong)
    with pytest.raises(ValueError, match="could not convert"):
        to_number("one")

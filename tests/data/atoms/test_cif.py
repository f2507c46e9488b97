"""CIF files: of this library, of pymatgen and ASE, and broken ones."""

import re
import sys

import numpy as np
import pytest
from tests.data.atoms.samples import make, rock_salt, same

from openunite.data.atoms.cif import cif_text, read_cif, write_cif
from openunite.data.atoms.lattice import cell_from_parameters, parameters_from_cell
from openunite.data.atoms.structure import Structure
from openunite.data.holdout import Skipped

P1 = """# a comment, with 'quotes'
data_NaCl
_chemical_formula_sum   'Na1 Cl1'
_cell_length_a   3.988(2)
_cell_length_b   3.988
_cell_length_c   3.988
_cell_angle_alpha   60.0
_cell_angle_beta    60.0
_cell_angle_gamma   60.0
_symmetry_Int_Tables_number   1
_publ_text
;
A text field with loop_ and data_no in it.
;
loop_
 _symmetry_equiv_pos_site_id
 _symmetry_equiv_pos_as_xyz
  1  'x, y, z'
loop_
 _atom_site_type_symbol
 _atom_site_label
 _atom_site_symmetry_multiplicity
 _atom_site_fract_x
 _atom_site_fract_y
 _atom_site_fract_z
 _atom_site_occupancy
  Na1+  Na0  1  0.0  0.0  0.0  1
  Cl1-  Cl1  1  0.5(1)  0.5  .5  1.0
"""
SYMMETRIC = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 0 0 0
Cl1 0.5 0.5 0.5
"""


def read(text: str) -> Structure | Skipped:
    (found,) = read_cif(text, "a.cif")
    return found


def in_axes(item: Structure) -> Structure:
    """The same crystal in the orientation that a CIF gives it."""
    cell = cell_from_parameters(parameters_from_cell(item.cell))
    return Structure(item.numbers, item.fractional % 1.0 @ cell, cell, item.name)


def test_p1():
    found = read(P1)
    assert found.numbers.tolist() == [11, 17]
    assert found.fractional == pytest.approx(np.array([[0] * 3, [0.5] * 3]))
    assert parameters_from_cell(found.cell) == pytest.approx([3.988] * 3 + [60] * 3)
    assert found.name == "a.cif"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" _atom_site_type_symbol\n", " _atom_site_other\n"),  # then the label names the element
        ("Na1+", "na"),
        ("\n", "\r\n"),
        ("_cell_length_a", "_CELL_LENGTH_A"),
        ("data_NaCl", "data_"),
        ("'x, y, z'", '"+x,+Y,+z"'),
        ("_symmetry_Int_Tables_number   1", "_space_group_name_H-M_alt 'P 1'"),
        ("3.988(2)", "3988E-3"),
    ],
)
def test_other_ways_to_say_it(old, new):
    text = P1.replace(old, new)
    if "other" in new:
        text = text.replace(" Na0 ", " Na12A ")
    same(read(text), read(P1), 1e-9)


def test_columns_apart_and_other_blocks():
    text = "data_global\n_journal 'x'\n" + P1 + P1.replace("data_NaCl", "data_2")
    first, second = read_cif(text, "a.cif")
    same(first, second)
    line = 4 + P1.count("\n")  # P1 begins with a comment
    assert first.name == "a.cif, line 4 (data_NaCl)"
    assert second.name == f"a.cif, line {line} (data_2)"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Na1+  Na0", "Xx  Na0", "unknown element 'Xx'"),
        ("_cell_length_b", "_cell_length_x", "has no _cell_length_b"),
        ("3.988(2)", "?", "expected a number for _cell_length_a, got '?'"),
        ("0.5(1)", "half", "expected a number for coordinate, got 'half'"),
        ("1.0\n", "0.5\n", "site Cl1 has occupancy 0.5, expected 1"),
        ("_atom_site_fract_z", "_atom_site_z", r"2 elements and \[2, 2, 0\] fractional"),
        (
            "  Cl1-  Cl1  1  0.5(1)  0.5  .5  1.0\n",
            "  Cl1-  Cl1  1  0.5",
            "Wrong number of values in loop",
        ),
    ],
)
def test_broken(old, new, reason):
    found = read(P1.replace(old, new))
    assert isinstance(found, Skipped)
    assert found.name == "a.cif"
    assert re.search(reason, found.reason)


def test_not_a_cif():
    for text in ("", "nonsense", "data_x\n_publ 1\n", "\x00\x01"):
        found = read(text)
        assert "expected a CIF with _cell_length_a" in found.reason


def test_a_broken_block_does_not_cost_the_others():
    broken, good = read_cif(P1.replace("0.5(1)", "x") + P1.replace("data_NaCl", "data_b"), "a.cif")
    assert isinstance(broken, Skipped)
    assert broken.name == "a.cif, line 2 (data_NaCl)"
    assert isinstance(good, Structure)


def test_symmetry_is_expanded():
    found = read(SYMMETRIC)
    assert sorted(found.numbers.tolist()) == [11] * 4 + [17] * 4
    assert parameters_from_cell(found.cell) == pytest.approx([5.64] * 3 + [90] * 3)
    sodium = found.fractional[found.numbers == 11].round(6) % 1
    assert sorted(map(tuple, sodium.tolist())) == [
        (0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0),
    ]  # fmt: skip
    both = list(read_cif(SYMMETRIC + P1.replace("NaCl", "x"), "a.cif"))
    assert [len(item) for item in both] == [8, 2]
    larger = SYMMETRIC.replace("5.64", "6.00")  # of the same title
    cells = [item.cell for item in read_cif(SYMMETRIC + larger, "a.cif")]
    assert [parameters_from_cell(cell)[0] for cell in cells] == pytest.approx([5.64, 6.0])


def test_reading_without_gemmi_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(ImportError, match=r"gemmi: pip install 'openunite\[crystals\]'"):
        read(P1)


def test_round_trip(tmp_path):
    moved = make("Na Cl", [[-0.1, 9.0, 2], [2, 2, 3]], [[3, 0, 1], [0, 4, 0], [0, 1, 5]], "x y")
    items = [rock_salt(), moved]
    write_cif(tmp_path / "a.cif", items)
    for found, expected in zip(read_cif((tmp_path / "a.cif").read_text(), "a"), items, strict=True):
        same(found, in_axes(expected), 1e-6)
    with pytest.raises(ValueError, match="water has no cell; write xyz or SDF"):
        cif_text(make("O", [[0, 0, 0]], name="water"), "0")
    nowhere = make("Na", [[0, 0, np.nan]], np.eye(3))
    with pytest.raises(ValueError, match="crystal 1 has a cell or positions that are not finite"):
        write_cif(tmp_path / "b.cif", [rock_salt(), nowhere])
    assert not (tmp_path / "b.cif").exists()


def test_pymatgen_and_ase_read_what_is_written(tmp_path):
    cif, io = pytest.importorskip("pymatgen.io.cif"), pytest.importorskip("ase.io")
    moved = make("Na Cl", [[-0.1, 9.0, 2], [2, 2, 3]], [[3, 0, 1], [0, 4, 0], [0, 1, 5]], "x y")
    items = [rock_salt(), moved]
    write_cif(tmp_path / "a.cif", items)
    crystals = cif.CifParser(tmp_path / "a.cif").parse_structures(primitive=False)
    atoms = io.read(tmp_path / "a.cif", index=":")
    for crystal, one, item in zip(crystals, atoms, items, strict=True):
        expected = in_axes(item)
        assert crystal.lattice.parameters == pytest.approx(parameters_from_cell(item.cell))
        assert crystal.frac_coords % 1 == pytest.approx(expected.fractional, abs=1e-6)
        assert [site.specie.Z for site in crystal] == item.numbers.tolist()
        assert one.get_scaled_positions() == pytest.approx(expected.fractional, abs=1e-6)


def test_what_pymatgen_and_ase_write_is_read(tmp_path):
    core, io = pytest.importorskip("pymatgen.core"), pytest.importorskip("ase.io")
    from openunite.data.atoms.convert import to_ase, to_pymatgen

    crystal = to_pymatgen(rock_salt())
    assert isinstance(crystal, core.Structure)
    same(read(crystal.to(fmt="cif")), in_axes(rock_salt()), 1e-6)
    io.write(tmp_path / "a.cif", to_ase(rock_salt()))
    same(read((tmp_path / "a.cif").read_text()), in_axes(rock_salt()), 1e-6)
    crystal.to(filename=str(tmp_path / "b.cif"), symprec=0.01)
    assert len(read((tmp_path / "b.cif").read_text())) == 8  # the conventional cell

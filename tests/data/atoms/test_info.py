"""What files say of a structure beside its atoms."""

from pathlib import Path

import numpy as np

from openunite.data.atoms.arrays import pack
from openunite.data.atoms.structure import Structure
from openunite.data.crystals.readers import read_crystals
from openunite.data.molecules.readers import read_molecules

XYZ = """2
Properties=species:S:1:pos:R:3 energy=-1.5 label="two words" pbc="F F F"
C 0 0 0
O 0 0 1.2
2
no keys here
C 0 0 0
O 0 0 1.3
"""
SDF = """water
  program 3D

  3  0  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 O   0  0
    0.0000    0.0000    0.9600 H   0  0
    0.9300    0.0000   -0.2400 H   0  0
M  END
> <gap>
7.25

> 25 <source name> (1)
a book

$$$$
"""
CIF = """data_a
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0 0 0
Cl1 Cl 0.5 0.5 0.5
"""


def test_keys_of_extended_xyz(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(XYZ)
    first, second = read_molecules(tmp_path / "a.xyz").structures
    assert first.info == {"energy": "-1.5", "label": "two words"}
    assert second.info == {}


def test_data_fields_of_sdf(tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_text(SDF)
    (water,) = read_molecules(tmp_path / "a.sdf").structures
    assert water.info == {"gap": "7.25", "source name": "a book"}


def test_short_columns_of_a_table(tmp_path: Path) -> None:
    quoted = '"' + CIF + '"'
    rows = [f"m-1,1.5,{quoted}", f"m-2,,{quoted}"]
    (tmp_path / "a.csv").write_text("material_id,band_gap,cif\n" + "\n".join(rows) + "\n")
    first, second = read_crystals(tmp_path / "a.csv").structures
    assert first.info == {"material_id": "m-1", "band_gap": "1.5"}
    assert second.info == {"material_id": "m-2"}


def test_structures_are_packed_with_what_is_said_of_them() -> None:
    atoms = np.array([6, 8]), np.zeros((2, 3))
    packed = pack([Structure(*atoms), Structure(*atoms, info={"a": "1"})])
    assert [item.info for item in packed] == [{}, {"a": "1"}]
    assert pack([Structure(*atoms)]).infos == ()

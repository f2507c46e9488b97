"""Symmetry and atoms that CIF files of many programs state are understood or refused."""

import time
from collections import Counter

import numpy as np
import pytest
from tests.data.atoms.test_cif import SYMMETRIC, read

from openunite.data.atoms.elements import symbol_of
from openunite.data.atoms.structure import Structure
from openunite.data.holdout import Skipped

CUBIC, TRICLINIC = (5.431, 5.431, 5.431, 90, 90, 90), (5, 6, 7, 80, 85, 95)
HEXAGONAL, MONOCLINIC = (2.95, 2.95, 4.68, 90, 90, 120), (7, 8, 9, 90, 100, 90)
NACL = ("Na1 Na 0.1 0.2 0.3", "Cl1 Cl 0.4 0.1 0.2")


def block(*lines: str, cell=TRICLINIC, sites=NACL, columns=()) -> str:
    """A CIF with the given lines before its sites."""
    keys = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    parameters = [f"_cell_{key} {value}" for key, value in zip(keys, cell, strict=True)]
    names = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", *columns)
    loop = ["loop_", *(f"_atom_site_{name}" for name in names), *sites]
    return "\n".join(["data_x", *lines, *parameters, *loop, ""])


def labels(*sites: str, formula: str = "") -> str:
    """A CIF in P1 whose elements only labels tell."""
    lines = [f"_chemical_formula_sum '{formula}'"] if formula else []
    rows = [f"{site} ? 0.{i + 1} 0.5 0.5" for i, site in enumerate(sites)]
    return block(*lines, cell=CUBIC, sites=rows)


def atoms(found: Structure | Skipped) -> dict[str, int]:
    assert isinstance(found, Structure), found
    return dict(Counter(map(symbol_of, found.numbers.tolist())))


def reason(found: Structure | Skipped) -> str:
    assert isinstance(found, Skipped), found
    return found.reason


@pytest.mark.parametrize(
    ("lines", "cell", "sites", "expected"),
    [
        (("_space_group_symop.operation_xyz -x,-y,-z",), TRICLINIC, NACL[:1], {"Na": 1}),
        (
            ("loop_", "_space_group_symop.operation_xyz", "x,y,z", "-x,-y,-z"),
            *(TRICLINIC, NACL, {"Na": 2, "Cl": 2}),
        ),
        (("_symmetry.space_group_name_H-M 'P -1'",), TRICLINIC, NACL, {"Na": 2, "Cl": 2}),
        (("_space_group_name_H-M_full 'P 1 21/n 1'",), MONOCLINIC, NACL, {"Na": 4, "Cl": 4}),
        (("_space_group.name_H-M_ref 'P 2_1/n'",), MONOCLINIC, NACL[:1], {"Na": 4}),
        (("_space_group_name_H-M_alt 'P 2(1)/n'",), MONOCLINIC, NACL[:1], {"Na": 4}),
        (("_space_group_name_Hall '-P 2yn'",), MONOCLINIC, NACL[:1], {"Na": 4}),
        (("_space_group_IT_number 14",), MONOCLINIC, NACL[:1], {"Na": 4}),
        (("_symmetry_cell_setting triclinic",), TRICLINIC, NACL, {"Na": 1, "Cl": 1}),
        (("_symmetry_space_group_name_H-M ?",), TRICLINIC, NACL, {"Na": 1, "Cl": 1}),
        (("_symmetry_space_group_name_H-M P -1",), TRICLINIC, NACL, {"Na": 2, "Cl": 2}),
        (
            ("_symmetry_space_group_name_H-M 'P 63/m m c'",),
            *(HEXAGONAL, ["Ti Ti 0.333 0.667 0.25"], {"Ti": 2}),
        ),
    ],
)
def test_symmetry_in_all_its_spellings_is_applied(lines, cell, sites, expected):
    assert atoms(read(block(*lines, cell=cell, sites=sites))) == expected


SI_0, SI_8TH = ["Si1 Si 0 0 0"], ["Si1 Si 0.125 0.125 0.125"]


@pytest.mark.parametrize(
    ("name", "sites"),
    [
        ("F d -3 m :1", SI_0),
        ("F d -3 m:2", SI_8TH),
        ("F d -3 m S", SI_0),
        ("Fd-3mZ", SI_8TH),
        ("F d -3 m (origin choice 2)", SI_8TH),
    ],
)
def test_an_origin_that_is_named_is_taken(name, sites):
    text = block(f"_symmetry_space_group_name_H-M '{name}'", cell=CUBIC, sites=sites)
    assert atoms(read(text)) == {"Si": 8}


def test_an_origin_that_is_not_named_is_found_by_other_statements_or_refused():
    name = "_symmetry_space_group_name_H-M 'F d -3 m'"
    for site in (*SI_0, *SI_8TH):
        assert "two origins" in reason(read(block(name, cell=CUBIC, sites=[site])))
        code = f"_space_group_IT_coordinate_system_code {1 if site in SI_0 else 2}"
        assert atoms(read(block(name, code, cell=CUBIC, sites=[site]))) == {"Si": 8}
        for formula in ("Si8", "Si"):
            stated = (f"_chemical_formula_sum {formula}", "_cell_formula_units_Z 8")
            assert atoms(read(block(name, *stated, cell=CUBIC, sites=[site]))) == {"Si": 8}
        text = block(name, cell=CUBIC, sites=[site + " 8"], columns=["symmetry_multiplicity"])
        assert atoms(read(text)) == {"Si": 8}
    hall = block("_space_group_name_Hall 'F 4d 2 3 -1d'", name, cell=CUBIC, sites=SI_0)
    assert atoms(read(hall)) == {"Si": 8}


@pytest.mark.parametrize("name", ["R -3 c :R", "R -3 c RS", "R -3 c"])
def test_rhombohedral_axes(name):
    sites = ["Ca Ca 0 0 0", "C C .25 .25 .25", "O O .5 0 .25"]
    cell = (6.36, 6.36, 6.36, 46.1, 46.1, 46.1)
    text = block(f"_symmetry_space_group_name_H-M '{name}'", cell=cell, sites=sites)
    assert atoms(read(text)) == {"Ca": 2, "C": 2, "O": 6}
    wrong = text.replace(name, "R -3 c :H")
    assert "a cell that its symmetry does not leave as it is" in reason(read(wrong))


OPERATIONS = ("loop_", "_symmetry_equiv_pos_as_xyz")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("loop_", "_space_group_symop_magn_operation.xyz", "x,y,z,+1"), "magnetic space group"),
        (("_space_group_magn.number_BNS 15.90", *OPERATIONS, "x,y,z"), "magnetic space group"),
        (("_space_group_ssg_name 'P-1(abc)0'",), "a modulated structure"),
        (("_cell_modulation_dimension 1", *OPERATIONS, "x,y,z"), "a modulated structure"),
        (("_space_group_name_Schoenflies 'D2h^16'",), "only by _space_group_name_schoenflies"),
        (("_space_group_point_group_H-M '4/mmm'",), "only by _space_group_point_group_h-m"),
        (("_symmetry_space_group_name_H-M 'Q 9'",), "not known, 'Q 9'"),
        (("_space_group_name_Hall 'nonsense'",), "not known, 'nonsense'"),
        (("_space_group_IT_number 231",), "not known, '231'"),
        (("_space_group_IT_number 14", "_space_group_IT_coordinate_system_code -a1"), "'14'"),
        (
            ("_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 2"),
            "different space groups, P 1, 2",
        ),
        (
            ("_symmetry_space_group_name_H-M 'P -1'", *OPERATIONS, "x,y,z"),
            "lists 1 of the 2 symmetry operations of P -1",
        ),
        (
            ("_symmetry_space_group_name_H-M 'P 21/n'", *OPERATIONS, "x,y,z", "-x,-y,-z"),
            "lists 2 of the 4 symmetry operations of P 1 21/n 1",
        ),
        ((*OPERATIONS, "x,y"), "an operation such as -x,y+1/2,z, got 'x,y'"),
        ((*OPERATIONS, "x,y,z,+1"), "an operation such as"),
        ((*OPERATIONS, "x,y,z", "-y,x,z"), "a cell that its symmetry does not leave as it is"),
        ((*OPERATIONS, *(f"x+{i}/200,y,z" for i in range(1)), "y,z"), "an operation such as"),
    ],
)
def test_symmetry_that_is_not_understood_is_refused_and_never_taken_for_p1(lines, expected):
    assert expected in reason(read(block(*lines)))


def test_more_operations_than_a_space_group_has_are_refused_before_they_are_applied():
    shifts = [
        f"{'xyz'[i % 3]}+{i}/24,{'xyz'[j % 3]}+{j}/24,z" for i in range(24) for j in range(24)
    ]
    assert "lists 576 symmetry operations" in reason(read(block(*OPERATIONS, *shifts)))


def test_more_images_than_can_be_compared_are_refused_before_they_are_made():
    sites = [f"C{i} C 0.1 0.{i:06d} 0.3" for i in range(2000)]
    text = block("_symmetry_space_group_name_H-M 'F m -3 m'", cell=CUBIC, sites=sites)
    assert "lists 2000 sites with 192 symmetry operations" in reason(read(text))


def test_texts_that_are_no_cif_are_refused_in_linear_time():
    start = time.perf_counter()
    for text in ("_a" + " " * 300_000 + "x" * 300_000 + "'", ";\n" * 300_000, "_a b " * 100_000):
        assert isinstance(read(f"data_x\n_cell_length_a 5\n{text}"), Skipped)
    assert time.perf_counter() - start < 10.0


def test_operations_in_p1_and_of_a_group_that_is_not_known_by_name():
    text = block("_symmetry_space_group_name_H-M 'Q 9'", *OPERATIONS, "x,y,z", "-x,-y,-z")
    assert atoms(read(text)) == {"Na": 2, "Cl": 2}


@pytest.mark.parametrize(
    ("formula", "fits"),
    [
        ("Na1 Cl1", True),
        ("NaCl", True),
        ("Na4 Cl4", False),
        ("Na Cl2", False),
        ("C6 H12", False),
        ("Na Cl, H2O", True),  # cannot be read
        ("Na0 Cl0", True),
        ("Na" + "9" * 400, False),
        ("?", True),
    ],
)
def test_a_formula_that_does_not_fit_the_atoms_costs_the_crystal(formula, fits):
    found = read(block(f"_chemical_formula_sum '{formula}'"))
    if fits:
        assert atoms(found) == {"Na": 1, "Cl": 1}
    else:
        assert "has Na1 Cl1 in its cell, but the formula" in reason(found)


def test_the_number_of_formula_units_counts_too():
    for formula, units, fits in (("NaCl", 1, 1), ("NaCl", 4, 0), ("NaCl", 2, 0), ("NaCl", "?", 1)):
        found = read(block(f"_chemical_formula_sum {formula}", f"_cell_formula_units_Z {units}"))
        assert isinstance(found, Structure) == bool(fits), found
    lines = ("_symmetry_space_group_name_H-M 'P -1'", "_cell_formula_units_Z 2")
    for formula in ("NaCl", "Na2Cl2"):  # of a unit, of the cell
        assert len(read(block(*lines, f"_chemical_formula_sum {formula}"))) == 4


def test_operations_that_are_not_those_of_the_named_group_need_a_formula_that_proves_them():
    """JARVIS lists all atoms of the cell with the identity, and names the group."""
    named = ("_symmetry_space_group_name_H-M 'P2_1/c'", *OPERATIONS, "x,y,z")
    formula = "_chemical_formula_sum Na1Cl1"
    assert atoms(read(block(formula, "_cell_formula_units_Z 1", *named))) == {"Na": 1, "Cl": 1}
    assert "no formula with Z proves them" in reason(read(block(formula, *named)))
    assert "but the formula" in reason(read(block(formula, "_cell_formula_units_Z 4", *named)))


def test_multiplicities_must_be_those_of_the_symmetry():
    name, column = "_symmetry_space_group_name_H-M 'P -1'", ["symmetry_multiplicity"]
    on_it = ("Na1 Na 0 0 0 {}", "Cl1 Cl 0.4 0.1 0.2 {}")
    for first, second in ((1, 2), (2, 1), ("?", ".")):  # of the site, of its symmetry, unknown
        sites = [on_it[0].format(first), on_it[1].format(second)]
        assert atoms(read(block(name, sites=sites, columns=column))) == {"Na": 1, "Cl": 2}
    sites = [f"{site} 4" for site in NACL]
    assert "Na1 has multiplicity 4, but symmetry makes 1" in reason(
        read(block("_symmetry_space_group_name_H-M 'P 1'", sites=sites, columns=column))
    )


def test_a_site_that_symmetry_makes_of_another_is_named():
    sites = ["C1 C .1 .2 .3", "C1A C -.1 -.2 -.3"]
    text = block("_symmetry_space_group_name_H-M 'P -1'", sites=sites)
    assert "site C1A where its symmetry puts C1 (occupancy 2)" in reason(read(text))


def test_atoms_are_where_symmetry_puts_them_in_the_order_of_the_file_within_an_element():
    found = read(
        SYMMETRIC.replace("Na1 0 0 0\n", "").replace("0.5 0.5 0.5\n", ".5 .5 .5\nNa1 0 0 0\n")
    )
    assert found.numbers.tolist() == [11] * 4 + [17] * 4  # the least electronegative first
    sodium = found.fractional[found.numbers == 11].round(6) % 1
    assert sorted(map(tuple, sodium.tolist())) == [
        (0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("site", "formula", "expected"),
    [
        ("Wat1", "", "O"),
        ("Ow2", "", "O"),
        ("OH3", "", "O"),
        ("HW1", "", "H"),
        ("D4", "", "H"),
        ("OSi1", "", ""),
        ("OSi1", "O", "O"),
        ("OA1", "", "O"),
        ("OCO", "", "O"),
        ("AL1", "", "Al"),
        ("SiT", "", "Si"),
        ("na1", "", "Na"),
        ("CL1", "Cl", "Cl"),
        ("HO1", "H", "H"),
        ("HO1", "", ""),
        ("CA1", "", ""),
        ("Du1", "", ""),
        ("Vac2", "", ""),
        ("Bq3", "", ""),
        ("Cg1", "", ""),
        ("T1", "", ""),
        ("X", "", ""),
        ("12", "", ""),
    ],
)
def test_elements_of_labels_are_read_or_refused_and_never_guessed(site, formula, expected):
    found = read(labels(site, formula=formula))
    if expected:
        assert atoms(found) == {expected: 1}
    else:
        assert site in reason(found)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *(("Na1+", "Na"), ("NA", "Na"), ("cl", "Cl"), ("CL1-", "Cl"), ("O2-", "O"), ("Fe+3", "Fe")),
        *(("D", "H"), ("T", "H"), ("OH", "O"), ("OH2", "O"), ("Si4+", "Si"), ("U6+", "U")),
        *(("NH4", ""), ("CN", ""), ("Du", ""), ("Na0.5K0.5", ""), ("CH3", ""), ("M", "")),
    ],
)
def test_types_are_an_element_and_perhaps_a_charge(kind, expected):
    found = read(block(sites=[f"Cs1 {kind} 0 0 0"]))
    if expected:
        assert atoms(found) == {expected: 1}
    else:
        assert f"unknown element '{kind}'" in reason(found)


def test_dummies_are_left_out_and_what_is_not_an_atom_is_refused():
    flag, zero = ["calc_flag"], "0.5 0.5 0.5"
    found = read(block(sites=["C1 C 0 0 0 d", f"Cg1 C {zero} dum", "Q1 H ? ? ? dum"], columns=flag))
    assert atoms(found) == {"C": 1}
    assert "no atoms but dummies" in reason(read(block(sites=["Q C 0 0 0 dum"], columns=flag)))
    assert "a number for coordinate" in reason(read(block(sites=["Q1 H ? ? ? d"], columns=flag)))
    hydrogens = block(sites=["O1 O 0 0 0 2"], columns=["attached_hydrogens"])
    assert "site O1 has 2 hydrogens that are not among the atoms" in reason(read(hydrogens))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ((-5, 5, 5, 90, 90, 90), "_cell_length_a -5, expected a number above 0"),
        ((5, 0, 5, 90, 90, 90), "_cell_length_b 0, expected a number above 0"),
        ((5, 5, "nan", 90, 90, 90), "_cell_length_c nan"),
        ((5, 5, "inf", 90, 90, 90), "_cell_length_c inf"),
        ((5, 5, 5, 90, 180, 90), "_cell_angle_beta 180, expected a number above 0 and below 180"),
    ],
)
def test_cells_that_no_crystal_has_are_refused(cell, expected):
    assert expected in reason(read(block(cell=cell)))


def test_cartesian_coordinates_and_mmcif_are_named():
    text = block().replace("fract_", "Cartn_")
    assert "gives Cartesian coordinates" in reason(read(text))
    assert "gives Cartesian coordinates" in reason(read(text.replace("_cell_", "_cell.")))


def test_values_given_twice_without_quotes_and_in_other_letters():
    assert "gives _cell_length_a twice" in reason(read(block("_cell_length_a 7")))
    assert atoms(read(block("_chemical_name_common rock salt"))) == {"Na": 1, "Cl": 1}
    assert atoms(read(block("_publ_author 'Müller'").replace("data_x", "data_é"))) == {
        "Na": 1,
        "Cl": 1,
    }


def test_a_block_is_found_where_a_text_field_speaks_of_others():
    text = block("_text", ";", "data_y", "_cell_length_a 9", ";")
    assert atoms(read(text)) == {"Na": 1, "Cl": 1}


def test_the_order_of_atoms_is_that_of_electronegativity():
    from openunite.data.atoms.elements import BY_ELECTRONEGATIVITY

    assert sorted(BY_ELECTRONEGATIVITY) == list(range(1, 119))
    ranks = [BY_ELECTRONEGATIVITY.index(number) for number in (55, 11, 14, 17, 8, 9)]
    assert ranks == sorted(ranks)
    assert np.diff(ranks).min() > 0

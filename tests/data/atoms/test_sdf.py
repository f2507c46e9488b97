"""SDF and mol files as other programs write them."""

import gzip
import time

import pytest
from tests.data.atoms.samples import METHANE, WATER, make, same, write

from openunite.data.atoms.sdf import read_sdf
from openunite.data.atoms.structure import Structure
from openunite.data.holdout import Skipped

V2000 = """water
  program 01012600003D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1173 O   0  0  0  0  0  0
    0.0000    0.7572   -0.4692 H   0  0  0  0  0  0
    0.0000   -0.7572   -0.4692 H   0  0  0  0  0  0
  1  2  1  0
  1  3  1  0
M  END
> <energy>
-76.4

$$$$
"""
V3000 = """water
  program

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 3 2 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0 0 0.1173 0
M  V30 2 H 0 0.7572 -0.4692 0
M  V30 3 H 0 -0.7572 -0.4692 0 -
M  V30 MASS=2
M  V30 END ATOM
M  V30 BEGIN BOND
M  V30 1 1 1 2
M  V30 END BOND
M  V30 END CTAB
M  END
$$$$
"""


def read_text(tmp_path, text: str) -> list[Structure | Skipped]:
    return list(read_sdf(write(tmp_path / "a.sdf", text)))


@pytest.mark.parametrize("text", [V2000, V3000, V2000.replace("\n", "\r\n")])
def test_versions(tmp_path, text):
    first, second = read_text(tmp_path, text * 2)
    same(first, make(*WATER))
    same(second, make(*WATER))
    assert first.name == "a.sdf, record 1, line 1"
    assert second.name == f"a.sdf, record 2, line {text.count(chr(10)) + 1}"


def test_a_mol_file_and_a_lost_last_line(tmp_path):
    text = V2000[: V2000.index("M  END")]
    (found,) = read_text(tmp_path, text)
    same(found, make(*WATER))
    assert len(read_text(tmp_path, V2000 + text + "\n\n")) == 2


def test_touching_columns(tmp_path):
    text = V2000.replace("    0.0000    0.0000    0.1173", "-1000.1234-2000.5678    0.1173")
    (found,) = read_text(tmp_path, text)
    assert found.positions[0] == pytest.approx([-1000.1234, -2000.5678, 0.1173])
    hundred = "\n\n\n" + "100 99  0     V2000\n"
    hundred = hundred.replace("100 99", "100100")
    atoms = "".join(f"{1.5 * i:10.4f}    0.0000    0.1000 C   0\n" for i in range(100))
    (found,) = read_text(tmp_path, hundred + atoms)
    assert len(found) == 100


def test_columns_that_are_not_fixed(tmp_path):
    text = "\n\n\n  2  1 V2000\n 0.0 0.0 0.0 Cl 0 0\n 0.0 0.0 1.27 H 0 0\nM  END\n$$$$\n"
    (found,) = read_text(tmp_path, text)
    same(found, make("Cl H", [[0, 0, 0], [0, 0, 1.27]]))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.7572   -0.4692 H", "0.7572   -0.4692 Q", "line 6: unknown element 'Q'"),
        ("    0.7572   -0.4692", "    0.75y2   -0.4692", "line 6: could not convert"),
        ("  3  2  0", " 30  2  0", "0 of 30 atoms"),
        ("  3  2  0", "  x  2  0", "line 4: expected a number of atoms"),
        (V2000, "nonsense\n$$$$\n", "expected at least 4 lines, got 1"),
    ],
)
def test_broken_records_are_named_and_the_rest_is_read(tmp_path, old, new, reason):
    if "30" in reason:
        reason = "the record ends after 9 of 30 atoms"
    broken, good = read_text(tmp_path, V2000.replace(old, new) + V2000)
    assert isinstance(broken, Skipped)
    assert reason in broken.reason
    assert broken.name == "a.sdf, record 1, line 1"
    same(good, make(*WATER))


def test_broken_v3000(tmp_path):
    broken, cut = read_text(
        tmp_path,
        V3000.replace("H 0 0.7572", "H 0 0.75x2") + V3000[: V3000.index("M  V30 END ATOM")],
    )
    assert "line 9" in broken.reason
    assert "BEGIN ATOM" in cut.reason


def test_drawings_are_refused(tmp_path):
    flat = V2000.replace("0.1173 O", "0.0000 O").replace("-0.4692 H", " 0.0000 H")
    (kept,) = read_text(tmp_path, flat)
    assert isinstance(kept, Structure)  # flat in space, as a program says that measured it
    for header in ("  program 01012600002D", "  program 0101262D", "Prog04180922312D"):
        (drawing,) = read_text(tmp_path, flat.replace("  program 01012600003D", header))
        assert "a drawing" in drawing.reason, header
    unmarked = flat.replace("  program 01012600003D", "")
    (kept,) = read_text(tmp_path, unmarked)  # it has its hydrogens
    assert isinstance(kept, Structure)
    wedge = unmarked.replace("  1  2  1  0", "  1  2  1  1")
    carbon = unmarked.replace(" O ", " C ").replace(" H ", " F ")
    for text in (wedge, carbon):
        (drawing,) = read_text(tmp_path, text)
        assert "a drawing" in drawing.reason
    in_space = carbon.replace("    0.0000    0.7572    0.0000", "    0.0000    0.7572    0.1000")
    assert isinstance(read_text(tmp_path, in_space)[0], Structure)


def test_joined_mol_files_are_records_of_their_own(tmp_path):
    mol = V2000[: V2000.index("> <energy>")]
    found = read_text(tmp_path, mol * 3)
    assert [item.name.split(", ")[1] for item in found] == ["record 1", "record 2", "record 3"]
    for item in found:
        same(item, make(*WATER))
    assert len(read_text(tmp_path, mol + V2000 + mol + V3000.replace("$$$$\n", "") + V2000)) == 5


def test_a_count_that_is_too_small_costs_the_record(tmp_path):
    broken, good = read_text(tmp_path, V2000.replace("  3  2  0", "  2  2  0") + V2000)
    assert "line 4: has more atoms than the 2 that it announces" in broken.reason
    same(good, make(*WATER))


def test_continued_lines_are_read_in_linear_time(tmp_path):
    text = V3000.replace("M  V30 MASS=2\n", "M  V30 -\n" * 200_000 + "M  V30 MASS=2\n")
    start = time.perf_counter()
    (found,) = read_text(tmp_path, text)
    assert time.perf_counter() - start < 10.0
    same(found, make(*WATER))


def test_gzip(tmp_path):
    path = tmp_path / "a.sdf.gz"
    path.write_bytes(gzip.compress(V2000.encode()))
    same(next(read_sdf(path)), make(*WATER))


@pytest.mark.parametrize("v3000", [False, True])
def test_rdkit_writes_what_is_read(tmp_path, v3000):
    pytest.importorskip("rdkit")
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecules = [
        Chem.AddHs(Chem.MolFromSmiles(text)) for text in ("C[N+](C)(C)CC(=O)[O-]", "Brc1ccccc1")
    ]
    for molecule in molecules:
        AllChem.EmbedMolecule(molecule, randomSeed=1)
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.SetForceV3000(v3000)
        for molecule in molecules:
            writer.write(molecule)
    for found, molecule in zip(read_sdf(tmp_path / "a.sdf"), molecules, strict=True):
        assert found.numbers.tolist() == [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
        assert found.positions == pytest.approx(molecule.GetConformer().GetPositions(), abs=6e-5)


def test_ase_writes_what_is_read(tmp_path):
    ase, io = pytest.importorskip("ase"), pytest.importorskip("ase.io")
    symbols, positions = METHANE
    io.write(tmp_path / "a.sdf", ase.Atoms(symbols.split(), positions), format="sdf")
    same(next(read_sdf(tmp_path / "a.sdf")), make(*METHANE), 6e-5)

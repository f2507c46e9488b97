"""To and from ASE, RDKit and pymatgen."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tests.data.atoms.samples import HCL, METHANE, WATER, make, rock_salt, same

from openunite.data.atoms.convert import (
    from_ase,
    from_pymatgen,
    from_rdkit,
    to_ase,
    to_pymatgen,
    to_rdkit,
    write_sdf,
)
from openunite.data.atoms.sdf import read_sdf

ITEMS = [make(*WATER, name="water"), make(*METHANE, name="methane"), make(*HCL, name="acid")]


def radical():
    """One bond too few: without a charge no valence works out."""
    return make("C H", [[0, 0, 0], [0, 0, 1.1]], name="radical")


def test_ase():
    pytest.importorskip("ase")
    for item in [*ITEMS, rock_salt()]:
        atoms = to_ase(item)
        assert atoms.pbc.tolist() == [item.cell is not None] * 3
        same(from_ase(atoms), item, 0)
        assert from_ase(atoms).name == item.name
    atoms = to_ase(ITEMS[0])
    atoms.set_cell([9, 9, 9])
    assert from_ase(atoms).cell is None
    with pytest.raises(TypeError, match="expected ASE Atoms, got str"):
        from_ase("water")


def test_rdkit():
    Chem = pytest.importorskip("rdkit.Chem")
    smiles = []
    for item in ITEMS:
        molecule = to_rdkit(item)
        same(from_rdkit(molecule), item, 0)
        assert from_rdkit(molecule).name == item.name
        smiles.append(Chem.MolToSmiles(Chem.RemoveHs(molecule)))
    assert smiles == ["O", "C", "Cl"]
    assert to_rdkit(ITEMS[1]).GetNumBonds() == 4


def test_rdkit_without_bonds(capfd):
    pytest.importorskip("rdkit")
    molecule = to_rdkit(radical())
    assert molecule.GetNumBonds() == 0
    assert sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms()) == 0
    same(from_rdkit(molecule), radical(), 0)
    assert capfd.readouterr().err == ""


def test_rdkit_molecules_that_are_incomplete():
    Chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = Chem.MolFromSmiles("CO")
    with pytest.raises(ValueError, match="no coordinates"):
        from_rdkit(molecule)
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    with pytest.raises(ValueError, match="4 hydrogens are implicit"):
        from_rdkit(molecule)
    drawing = Chem.MolFromSmiles("CO")
    AllChem.Compute2DCoords(drawing)
    with pytest.raises(ValueError, match="no coordinates"):
        from_rdkit(drawing)
    whole = Chem.AddHs(molecule, addCoords=True)
    assert len(from_rdkit(whole)) == 6


def test_pymatgen():
    pytest.importorskip("pymatgen.core")
    for item in [*ITEMS, rock_salt()]:
        found = to_pymatgen(item)
        same(from_pymatgen(found, "x"), item, 1e-12)
    assert to_pymatgen(rock_salt()).composition.reduced_formula == "NaCl"
    assert to_pymatgen(ITEMS[0]).composition.reduced_formula == "H2O"


def test_pymatgen_sites_without_one_element():
    core = pytest.importorskip("pymatgen.core")
    lattice = core.Lattice.cubic(4)
    for species in ({"Na": 0.5, "K": 0.5}, {"Na": 0.5}):
        with pytest.raises(ValueError, match=r"site 0 is .*Na.*exactly one element"):
            from_pymatgen(core.Structure(lattice, [species], [[0, 0, 0]]))
    charged = core.Structure(lattice, ["Na+"], [[0, 0, 0]])
    assert from_pymatgen(charged).numbers.tolist() == [11]


def test_sdf(tmp_path):
    Chem = pytest.importorskip("rdkit.Chem")
    items = [*ITEMS, radical()]
    assert write_sdf(tmp_path / "a.sdf", items) == 1  # the radical has no bonds
    for found, expected in zip(read_sdf(tmp_path / "a.sdf"), items, strict=True):
        same(found, expected, 6e-5)
    molecules = list(Chem.SDMolSupplier(str(tmp_path / "a.sdf"), removeHs=False))
    assert [molecule.GetProp("_Name") for molecule in molecules] == [item.name for item in items]
    assert [molecule.GetNumBonds() for molecule in molecules] == [2, 4, 1, 0]
    assert [molecule.GetNumAtoms() for molecule in molecules] == [3, 5, 2, 2]
    write_sdf(tmp_path / "b.sdf", [replace(ITEMS[0], name="two\n$$$$\nlines")])
    (found,) = read_sdf(tmp_path / "b.sdf")
    same(found, ITEMS[0], 6e-5)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; import openunite.data.molecules.dataset, openunite.data.crystals.dataset; "
        "import openunite.data.atoms.convert; "
        "print([m for m in ('rdkit', 'ase', 'pymatgen', 'spglib', 'jarvis', 'pandas', 'qm9pack') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("package", "convert", "extra"),
    [
        ("ase", to_ase, "molecules"),
        ("rdkit", to_rdkit, "molecules"),
        ("pymatgen", to_pymatgen, "crystals"),
    ],
)
def test_missing_extras_are_named(monkeypatch, package, convert, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}: pip install 'openunite\[{extra}\]'"):
        convert(ITEMS[0])

"""Formulas that are asked for are kept, and columns that are computed from the atoms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import perturb

from openunite.conditions.base import fit
from openunite.conditions.composition import counts_of
from openunite.data.atoms.arrays import pack
from openunite.data.atoms.structure import Structure
from openunite.data.molecules.dataset import molecule_dataset
from openunite.modalities.atoms.columns import columns_of, formula_histogram
from openunite.modalities.atoms.formula import (
    allowed_sizes,
    check_sizes,
    draw_formulas,
    set_elements,
)
from openunite.modalities.atoms.pipeline import AtomPipeline, uniform_of
from openunite.modalities.crystal.pipeline import CrystalPipeline
from openunite.modalities.molecule.pipeline import MoleculePipeline
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder

FORMULAS = ["CO2", "C2H6O", "CH4", "H2O", "C3H8"]


def pipeline_of(kind: str) -> AtomPipeline:
    """Random weights; H, C and O; up to 12 atoms, most often 4 to 9."""
    settings = {"elements": [1, 6, 8], "max_atoms": 12}
    plain = {"formula": fit("formula", "composition", FORMULAS)}
    encoder = GenerativeEncoder(
        kind, settings, 12, 8, 32, 2, 2, num_context_tokens=0, conditions=plain
    )
    decoder = Decoder(kind, settings, 12, 8, 32, 2, 2, 48)
    perturb(encoder)
    perturb(decoder, seed=2)
    cls = MoleculePipeline if kind == "molecule" else CrystalPipeline
    return cls(encoder, decoder, size_histogram=[0, 0, 0, 0, 3, 2, 4, 1, 1, 5])


@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_every_sample_has_the_formula_that_was_asked_for(kind: str) -> None:
    pipeline = pipeline_of(kind)
    asked = [None if i % 4 == 3 else FORMULAS[i % 3] for i in range(24)]
    options = {"seeds": range(24), "num_inference_steps": 3, "solver": "euler"}
    found = pipeline(24, conditions={"formula": asked}, batch_size=10, **options)
    sizes = set()
    for formula, structure in zip(asked, found, strict=True):
        if formula is None:
            continue
        numbers, counts = np.unique(structure.numbers, return_counts=True)
        wanted = counts_of(formula)
        times = len(structure) // sum(wanted.values())
        sizes.add((formula, times))
        assert dict(zip(numbers.tolist(), (counts // times).tolist(), strict=True)) == wanted
        assert times == 1 or kind == "crystal"
    if kind == "crystal":
        assert {("CO2", 2), ("CO2", 3), ("CH4", 1)} <= sizes
    with pytest.raises(ValueError, match=r"num_atoms must be 3.* for CO2, got 4"):
        pipeline(2, conditions={"formula": "CO2"}, num_atoms=4)
    with pytest.raises(ValueError, match="has 13 atoms, this model makes at most 12"):
        pipeline(2, conditions={"formula": "C3H9O"})


def test_sizes_are_those_that_a_formula_allows() -> None:
    row = torch.tensor([[0.0, 1, 1, 1, 1, 1, 1]] * 3, dtype=torch.float64)
    formulas = {0: counts_of("CO"), 2: counts_of("C3H8")}
    found = allowed_sizes(row, formulas, 12, repeats=True)
    assert found[0].nonzero()[:, 0].tolist() == [2, 4, 6]
    assert torch.equal(found[1, :7], row[1])
    assert found[2].nonzero()[:, 0].tolist() == [11]  # none in training: its own
    alone = allowed_sizes(row, formulas, 12, repeats=False)
    assert alone[0].nonzero()[:, 0].tolist() == [2]
    check_sizes([4, 5, 11], formulas, repeats=True)
    with pytest.raises(ValueError, match="num_atoms must be 2 for CO, got 4"):
        check_sizes([4, 5, 11], formulas, repeats=False)


def test_the_surest_atoms_choose_their_elements_first() -> None:
    output = torch.tensor(
        [[9.0, 0, 0, 7], [8.0, 0, 0, 7], [2.0, 1, 0, 7], [0.0, 0, 3, 7], [1.0, 1, 1, 7]]
    )
    set_elements(output, 4, counts_of("H2CO"), (1, 6, 8))
    assert output[:4, :3].argmax(dim=1).tolist() == [0, 0, 1, 2]
    assert output[:, 3].tolist() == [7.0] * 5
    assert output[4, :3].tolist() == [1.0, 1.0, 1.0]  # padding


def test_columns_are_what_files_say_and_what_atoms_tell() -> None:
    pytest.importorskip("pymatgen.core")
    cell = 4.0 * np.eye(3)
    places = np.array([[0.0, 0, 0], [2.0, 2, 2]])
    salt = Structure(np.array([11, 17]), places, cell, info={"gap": "8.5"})
    found = columns_of([salt, Structure(np.array([3, 3]), places, cell)])
    values = {name: column() for name, column in found.items()}
    assert values["formula"] == ["NaCl", "Li2"]
    assert values["num_elements"] == [2, 1]
    assert values["gap"] == ["8.5", None]
    assert values["volume_per_atom"] == pytest.approx([32.0, 32.0])
    assert values["density"][0] == pytest.approx(58.44 / 64.0 * 1.66054, rel=1e-4)
    molecules = columns_of([Structure(np.array([6, 8]), places)])
    assert sorted(molecules) == ["formula", "num_elements"]


HISTOGRAM = {"H4C": 6, "H2O": 3, "CO2": 1}


def drawing_pipeline() -> AtomPipeline:
    """Molecules of which a formula is drawn where nothing is asked."""
    known = pipeline_of("molecule")
    sizes = [0, 0, 0, 4, 0, 6]
    return MoleculePipeline(
        known.encoder, known.decoder, size_histogram=sizes, formula_histogram=HISTOGRAM
    )


def test_formulas_are_drawn_as_often_as_in_training() -> None:
    uniform = (torch.arange(1000).double() + 0.5) / 1000
    found = draw_formulas(HISTOGRAM, uniform, None)
    assert [found.count(name) for name in ("CO2", "H2O", "H4C")] == [100, 300, 600]
    assert found == sorted(found, key=lambda name: (name == "H4C", name))  # by number of atoms


def test_a_drawn_formula_fits_the_size_that_was_asked_for() -> None:
    uniform = torch.tensor([0.1, 0.3, 0.9, 0.5], dtype=torch.float64)
    assert draw_formulas(HISTOGRAM, uniform, [3, 3, 5, 4]) == ["CO2", "H2O", "H4C", None]


def test_a_sample_of_which_nothing_is_asked_has_a_drawn_formula_by_its_seed() -> None:
    pipeline = drawing_pipeline()
    options = {"num_inference_steps": 2, "solver": "euler"}
    samples = pipeline(12, seeds=range(12), **options)
    expected = draw_formulas(HISTOGRAM, uniform_of(torch.arange(12)), None)
    assert [columns_of([item])["formula"]()[0] for item in samples] == expected
    again = pipeline(1, seeds=[7], **options)[0]
    np.testing.assert_allclose(again.positions, samples[7].positions, atol=1e-4)
    sized = pipeline(4, seeds=range(4), num_atoms=[3, 5, 3, 4], **options)
    assert [columns_of([item])["formula"]()[0] == "H4C" for item in sized[:3]] == [0, 1, 0]
    assert len(sized[3]) == 4  # no formula of four atoms is known


def test_nothing_is_drawn_where_conditions_are_given_or_the_model_has_none(tmp_path: Path) -> None:
    pipeline = drawing_pipeline()
    options = {"num_inference_steps": 2, "solver": "euler", "seeds": range(6)}
    plain = MoleculePipeline(pipeline.encoder, pipeline.decoder)
    free = pipeline(6, num_atoms=3, conditions={}, **options)
    for sample, other in zip(free, plain(6, num_atoms=3, **options), strict=True):
        np.testing.assert_array_equal(sample.positions, other.positions)
    asked = pipeline(6, conditions={"formula": "C2H6O"}, **options)
    assert {len(item) for item in asked} == {9}
    plain.save_pretrained(tmp_path / "plain")
    assert "formula_histogram" not in (tmp_path / "plain" / "model_index.json").read_text()
    pipeline.save_pretrained(tmp_path / "drawing")
    loaded = MoleculePipeline.from_pretrained(tmp_path / "drawing")
    assert loaded.config.formula_histogram == HISTOGRAM
    with pytest.raises(ValueError, match="formula_histogram must be counts of at least 1"):
        MoleculePipeline.from_pretrained(tmp_path / "drawing", formula_histogram={"H4C": 0})


def test_the_histogram_of_formulas_counts_the_structures_of_a_data_set() -> None:
    water = Structure(np.array([8, 1, 1]), np.eye(3))
    carbon_dioxide = Structure(np.array([8, 6, 8]), np.eye(3))
    packed = pack([water, carbon_dioxide, water, water])
    data = molecule_dataset(packed, np.array([0, 1, 3]), (1, 6, 8))
    assert formula_histogram(data) == {"H2O": 2, "CO2": 1}

"""What each kind makes of a column, of a user's value, and of what nobody can ask for."""

import math
import warnings
from typing import Any

import pytest
import torch

from openunite.conditions.base import fit, get_kind, guess, is_missing, parse, read
from openunite.conditions.composition import counts_of, formula_of

GAPS = [1.0, None, 2.0, math.nan, 3.5, 7.0]
FORMULAS = ["LiFePO4", "Ca(OH)2", "NaCl"]
TAGS = ["red", "blue", "red", ("red", "blue"), "blue", "green", "green", "green", "red", "blue"]


def settings_of(name: str, kind: str, column: list[Any]) -> dict[str, Any]:
    return fit(name, kind, column)


def test_a_number_is_fitted_to_the_values_that_are_there() -> None:
    found = settings_of("gap", "number", GAPS)
    assert found["mean"] == pytest.approx(3.375)
    assert (found["low"], found["high"]) == (1.0, 7.0)
    assert found["std"] == pytest.approx(torch.tensor([1.0, 2.0, 3.5, 7.0]).std().item())


@pytest.mark.parametrize(
    ("value", "row"),
    [
        (4.2, [4.2, 4.2]),
        ("4.2", [4.2, 4.2]),
        ((4, 5), [4.0, 5.0]),
        ("4..5", [4.0, 5.0]),
        ("4..", [4.0, 7.0]),
        ((None, 2), [1.0, 2.0]),
    ],
)
def test_numbers_and_ranges_are_read(value: Any, row: list[float]) -> None:
    assert parse("gap", settings_of("gap", "number", GAPS), value) == row


@pytest.mark.parametrize("value", ["high", True, (1, 2, 3), "5..4", "..", math.inf, (None, None)])
def test_what_is_no_number_is_one_sentence(value: Any) -> None:
    with pytest.raises(ValueError, match="condition gap: expected a"):
        parse("gap", settings_of("gap", "number", GAPS), value)


def test_a_number_that_training_never_saw_is_a_warning() -> None:
    plain = settings_of("gap", "number", GAPS)
    with pytest.warns(UserWarning, match=r"outside 1\.\.7"):
        assert parse("gap", plain, 9.0) == [9.0, 9.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse("gap", plain, (6.0, 9.0))


def test_half_of_the_numbers_become_ranges_around_them() -> None:
    kind, settings = read("gap", settings_of("gap", "number", GAPS))
    number = kind(settings, 8)
    values = torch.full((4000, 2), 3.0)
    low, high = number.blur(values, torch.rand(4000, 3)).unbind(dim=1)
    assert bool(((low <= 3.0) & (high >= 3.0)).all())
    exact = low == high
    assert abs(float(exact.float().mean()) - 0.5) < 4 * 0.5 / 4000**0.5
    wide = (high - low)[~exact]
    assert 0.0 < float(wide.min()) < 0.1
    assert 5.5 < float(wide.max()) <= 6.0


def test_a_column_of_one_value_teaches_nothing() -> None:
    with pytest.raises(ValueError, match="condition gap: all its values are 2"):
        fit("gap", "number", [2.0, 2.0, 2.0])
    with pytest.raises(ValueError, match="at least 2 known values, got 1"):
        fit("gap", "number", [2.0, None])


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("LiFePO4", {3: 1, 26: 1, 15: 1, 8: 4}),
        ("Ca(OH)2", {20: 1, 8: 2, 1: 2}),
        ("CH3CH2OH", {6: 2, 1: 6, 8: 1}),
        ("Mg3(Al(OH)6)2", {12: 3, 13: 2, 8: 12, 1: 12}),
        ({"Li": 1, "O": 2}, {3: 1, 8: 2}),
    ],
)
def test_formulas_are_counted(text: Any, counts: dict[int, int]) -> None:
    assert counts_of(text) == counts


@pytest.mark.parametrize(
    "text", ["", "Xx2", "li", "LiFePO4)", "(LiO", "Li0", "2Li", "()2", "(2O)", 7, {"O": 0.5}, {}]
)
def test_what_is_no_formula_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        counts_of(text)


def test_a_formula_is_written_as_it_is_read() -> None:
    assert formula_of(counts_of("O4PFeLi")) == "LiFePO4"
    assert counts_of(formula_of({8: 2, 3: 1})) == {8: 2, 3: 1}


def test_rows_of_formulas_are_padded_pairs_of_element_and_count() -> None:
    plain = settings_of("formula", "composition", FORMULAS)
    assert plain["elements"] == ["H", "Li", "O", "Na", "P", "Cl", "Ca", "Fe"]
    assert plain["most"] == 4
    assert parse("formula", plain, "NaCl") == [11, 1, 17, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="condition formula: U does not occur"):
        parse("formula", plain, "UO2")
    with pytest.raises(ValueError, match=r"at most 4 elements, .* got 5 in NaLiPHO"):
        parse("formula", plain, "HLiONaP")


def test_names_come_alone_or_several_at_once() -> None:
    plain = settings_of("color", "category", TAGS)
    assert parse("color", plain, "blue, red") == parse("color", plain, ("red", "blue"))
    assert plain == {"kind": "category", "names": ["blue", "green", "red"], "most": 2}
    assert parse("color", plain, "green") == [1.0, -1.0]
    assert parse("color", plain, ("red", "blue")) == [0.0, 2.0]
    assert parse("color", plain, 2) == [2.0, -1.0]
    with pytest.raises(ValueError, match=r"unknown name 'gren', .* the nearest is green"):
        parse("color", plain, "gren")
    with pytest.raises(ValueError, match="at most 2 at once"):
        parse("color", plain, ("red", "blue", "green"))


@pytest.mark.parametrize(
    ("column", "kind"),
    [(GAPS, "number"), (["1", "2.5", ""], "number"), (FORMULAS, "composition")]
    + [(["Li", "Fe"] * 9, "category"), (TAGS, "category")],
)
def test_kinds_are_guessed(column: list[Any], kind: str) -> None:
    assert guess("it", column) == kind


def test_what_is_no_value_is_no_kind() -> None:
    with pytest.raises(
        ValueError, match=r"such as \{'a': \[\]\},.*name one of number, composition"
    ):
        guess("caption", [{"a": []}, {"a": [1]}])


def test_empty_cells_are_missing() -> None:
    assert all(is_missing(value) for value in ("", "NaN", None, math.nan, " n/a ", (), []))
    assert not any(is_missing(value) for value in (0, "0", False, "no", 0.0, (0,)))


@pytest.mark.parametrize("name", ["class", "type", "keys", "a.b", "", "1st", "with space"])
def test_names_that_no_condition_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a condition must be"):
        fit(name, "number", [1.0, 2.0])


def test_settings_in_files_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected one of the conditions number, .*'numbr'"):
        read("gap", {"kind": "numbr"})
    with pytest.raises(ValueError, match="condition gap: unknown setting mu"):
        read("gap", {"kind": "number", "mu": 1.0})
    with pytest.raises(ValueError, match="must be a mapping with a kind"):
        read("gap", {"mean": 1.0})
    with pytest.raises(ValueError, match="std > 0"):
        read("gap", {"kind": "number", "mean": 0.0, "std": 0.0, "low": 0.0, "high": 1.0})


@pytest.mark.parametrize(
    ("kind", "column"), [("number", GAPS), ("composition", FORMULAS), ("category", TAGS)]
)
def test_the_example_of_a_description_can_be_asked_for(kind: str, column: list[Any]) -> None:
    plain = fit("it", kind, column)
    text = get_kind(kind).describe(read("it", plain)[1])
    assert parse("it", plain, text.rpartition("such as ")[2])

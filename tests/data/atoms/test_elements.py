"""Symbols and numbers."""

import pytest

from openunite.data.atoms.elements import SYMBOLS, atomic_number, sorted_elements, symbol_of


def test_table():
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 118
    known = {"H": 1, "C": 6, "Cl": 17, "Fe": 26, "I": 53, "La": 57, "Lu": 71, "Hf": 72, "U": 92}
    for symbol, number in (known | {"Og": 118}).items():
        assert atomic_number(symbol) == number
        assert symbol_of(number) == symbol
    assert atomic_number("D") == atomic_number("T") == 1


def test_agrees_with_ase():
    data = pytest.importorskip("ase.data")
    assert tuple(data.chemical_symbols[1:119]) == SYMBOLS


@pytest.mark.parametrize("symbol", ["", "X", "cl", "CL", "Carbon", "*"])
def test_unknown_symbol(symbol):
    with pytest.raises(ValueError, match="unknown element"):
        atomic_number(symbol)


@pytest.mark.parametrize("number", [0, -1, 119])
def test_unknown_number(number):
    with pytest.raises(ValueError, match=f"from 1 to 118, got {number}"):
        symbol_of(number)


def test_sorted_elements():
    assert sorted_elements(["O", 1, "C", "O"]) == (1, 6, 8)
    with pytest.raises(ValueError, match="got 200"):
        sorted_elements([200])

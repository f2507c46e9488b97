"""Small structures with known answers."""

from pathlib import Path

import numpy as np
import pytest

from openunite.data.atoms.structure import Structure

WATER = ("O H H", [[0.0, 0.0, 0.1173], [0.0, 0.7572, -0.4692], [0.0, -0.7572, -0.4692]])
METHANE = (
    "C H H H H",
    [
        [0, 0, 0],
        [0.63, 0.63, 0.63],
        [-0.63, -0.63, 0.63],
        [-0.63, 0.63, -0.63],
        [0.63, -0.63, -0.63],
    ],
)
HCL = ("Cl H", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.27]])

_NUMBERS = {"H": 1, "C": 6, "O": 8, "Na": 11, "Cl": 17}


def make(symbols: str, positions: object, cell: object = None, name: str = "") -> Structure:
    numbers = np.array([_NUMBERS[symbol] for symbol in symbols.split()], dtype=np.int64)
    lattice = None if cell is None else np.array(cell, dtype=np.float64)
    return Structure(numbers, np.array(positions, dtype=np.float64), lattice, name)


def rock_salt(a: float = 5.64) -> Structure:
    """The primitive cell of NaCl."""
    cell = np.array([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]])
    return make("Na Cl", [[0, 0, 0], [a / 2, a / 2, a / 2]], cell, "NaCl")


def many_molecules(count: int, seed: int = 0) -> list[Structure]:
    """Chains of hydrogen and carbon, 2 to 9 atoms 0.9 Angstrom or more apart, all different."""
    generator = np.random.default_rng(seed)
    found = []
    for i in range(count):
        size = 2 + i % 8
        positions = np.arange(size)[:, None] * np.array([1.2, 0.0, 0.0])
        positions = positions + generator.uniform(-0.15, 0.15, (size, 3))
        numbers = generator.choice([1, 6], size)
        numbers[:2] = (1, 6)
        found.append(Structure(numbers, positions, None, f"chain {i}"))
    return found


def xyz_text(*molecules: tuple[str, object], comment: str = "") -> str:
    """Plain xyz as a program would print it."""
    lines = []
    for symbols, positions in molecules:
        labels = symbols.split()
        lines += [str(len(labels)), comment]
        rows = zip(labels, positions, strict=True)
        lines += [f"{label} {x:.6f} {y:.6f} {z:.6f}" for label, (x, y, z) in rows]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def same(found: Structure, expected: Structure, tolerance: float = 1e-6) -> None:
    """Same atoms in the same order at the same places, and the same cell."""
    assert found.numbers.tolist() == expected.numbers.tolist()
    assert found.positions == pytest.approx(expected.positions, abs=tolerance)
    assert (found.cell is None) == (expected.cell is None)
    if expected.cell is not None:
        assert found.cell == pytest.approx(expected.cell, abs=tolerance)

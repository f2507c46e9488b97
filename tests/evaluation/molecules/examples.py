"""Small molecules with coordinates (Angstrom) one can check by hand."""

import numpy as np

from openunite.data.atoms.structure import Floats, Structure

_NUMBERS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9, "Cl": 17}


def molecule(symbols: str, *positions: tuple[float, float, float]) -> Structure:
    numbers = np.array([_NUMBERS[symbol] for symbol in symbols.split()])
    return Structure(numbers, np.array(positions, dtype=np.float64), name=symbols)


def moved(structure: Structure, positions: Floats) -> Structure:
    return Structure(structure.numbers, positions, name=structure.name)


_D = 0.629  # C-H 1.09 along the diagonals of a cube
_CORNERS = ((_D, _D, _D), (_D, -_D, -_D), (-_D, _D, -_D), (-_D, -_D, _D))
METHANE = molecule("C H H H H", (0, 0, 0), *_CORNERS)
WATER = molecule("O H H", (0, 0, 0), (0.757, 0.586, 0), (-0.757, 0.586, 0))
AMMONIA = molecule(
    "N H H H",
    (0, 0, 0),
    (0.938, 0, -0.382),
    (-0.469, 0.812, -0.382),
    (-0.469, -0.812, -0.382),
)
ETHYLENE = molecule(
    "C C H H H H",
    (-0.665, 0, 0),
    (0.665, 0, 0),
    (-1.23, 0.92, 0),
    (-1.23, -0.92, 0),
    (1.23, 0.92, 0),
    (1.23, -0.92, 0),
)
ACETYLENE = molecule("C C H H", (-0.6, 0, 0), (0.6, 0, 0), (-1.66, 0, 0), (1.66, 0, 0))
HYDROGEN_CYANIDE = molecule("H C N", (0, 0, 0), (1.066, 0, 0), (2.222, 0, 0))
FORMALDEHYDE = molecule("C O H H", (0, 0, 0), (1.205, 0, 0), (-0.58, 0.94, 0), (-0.58, -0.94, 0))
CARBON_DIOXIDE = molecule("C O O", (0, 0, 0), (1.17, 0, 0), (-1.17, 0, 0))
SOUND = {
    "C": METHANE,
    "O": WATER,
    "N": AMMONIA,
    "C=C": ETHYLENE,
    "C#C": ACETYLENE,
    "C#N": HYDROGEN_CYANIDE,
    "C=O": FORMALDEHYDE,
    "O=C=O": CARBON_DIOXIDE,
}

# One hydrogen is gone too far: it and the carbon lack a bond, three hydrogens have theirs.
BROKEN = molecule("C H H H H", (0, 0, 0), *_CORNERS[:3], (-3, -3, 3))
# Four bonds of order one at a nitrogen without a charge.
AMMONIUM = molecule("N H H H H", (0, 0, 0), *_CORNERS)
CHLOROMETHANE = molecule("C H H H Cl", (0, 0, 0), *_CORNERS[:3], (-1.03, -1.03, 1.03))
# Four different neighbors at four different distances: not its own mirror image.
CHIRAL = molecule(
    "C H F N O",
    (0, 0, 0),
    (0.63, 0.63, 0.63),
    (0.78, -0.78, -0.78),
    (-0.85, 0.85, -0.85),
    (-0.82, -0.82, 0.82),
)

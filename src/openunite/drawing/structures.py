"""Pictures of molecules and crystals: balls and sticks, and 2-D drawings."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from openunite.data.atoms.structure import Floats, Structure
from openunite.optional import optional

Color = tuple[int, int, int]
_OVERSAMPLING = 3  # tiles are drawn this many times larger, then reduced
_COLORS: dict[int, Color] = {
    1: (235, 235, 235), 6: (80, 80, 80), 7: (48, 80, 248), 8: (230, 30, 20), 9: (130, 220, 80),
    15: (255, 128, 0), 16: (240, 210, 40), 17: (31, 220, 31), 35: (166, 41, 41),
}  # fmt: skip
_RADII = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 15: 1.07, 16: 1.05, 17: 1.02, 35: 1.20}
_DEFAULT_RADIUS = 1.3  # angstrom, for elements that are not in the table
_VIEW_ANGLES = np.radians([20.0, -25.0])  # about x, then y


def structure_grid(structures: Sequence[Structure], columns: int, side: int = 220) -> Image.Image:
    """Structures as balls and sticks, row by row, each seen along its flattest direction.

    Sticks join atoms closer than 1.2 times the sum of their covalent radii; cells are drawn.
    """
    return _grid([_draw(structure, side) for structure in structures], columns, side)


def _grid(tiles: Sequence[Image.Image], columns: int, side: int) -> Image.Image:
    """Square tiles, row by row."""
    rows = math.ceil(len(tiles) / max(1, columns))
    canvas = Image.new("RGB", (columns * side, rows * side), "white")
    for i, tile in enumerate(tiles):
        canvas.paste(tile, (i % columns * side, i // columns * side))
    return canvas


def pair_structures(
    first: Sequence[Structure], second: Sequence[Structure], side: int = 220
) -> Image.Image:
    """Structures of `first` above those of `second`; both of a pair are seen from one direction."""
    views = [_view(structure) for structure in first]
    tiles = [
        _draw(structure, side, view)
        for structures in (first, second)
        for structure, view in zip(structures, views, strict=True)
    ]
    return _grid(tiles, len(first), side)


def drawing_grid(structures: Sequence[Structure], columns: int, side: int = 220) -> Image.Image:
    """2-D drawings of molecules with bonds from EDM's distance table, made by RDKit.

    A cross stands for a molecule that these bonds make invalid. ImportError names the extra to
    install if RDKit is missing.
    """
    from openunite.evaluation.molecules.edm_rdkit import edm_molecule

    optional("rdkit", "molecules", "a picture of bonds")
    from rdkit import Chem, rdBase
    from rdkit.Chem import Draw, rdDepictor

    tiles = []
    for structure in structures:
        molecule = edm_molecule(structure)
        if molecule is None:
            tiles.append(_cross(side))
            continue
        for atom in molecule.GetAtoms():
            atom.SetNoImplicit(True)  # a stray hydrogen is drawn as H, not as H2
        with rdBase.BlockLogs():  # RDKit warns of each hydrogen without a bond
            flat = Chem.RemoveHs(molecule, sanitize=False)
        rdDepictor.Compute2DCoords(flat)
        tiles.append(Draw.MolToImage(flat, size=(side, side)))
    return _grid(tiles, columns, side)


def _cross(side: int) -> Image.Image:
    tile = Image.new("RGB", (side, side), "white")
    pen, low, high = ImageDraw.Draw(tile), 0.4 * side, 0.6 * side
    for ends in ((low, low, high, high), (low, high, high, low)):
        pen.line(ends, fill=(200, 200, 200), width=3)
    return tile


def _draw(structure: Structure, side: int, view: Floats | None = None) -> Image.Image:
    """One tile; distant parts are drawn first."""
    size = side * _OVERSAMPLING
    tile = Image.new("RGB", (size, size), "white")
    if not np.isfinite(structure.positions).all():
        return _cross(side)
    corners = _corners(structure)
    turn = _view(structure) if view is None else view
    center = (corners if len(corners) else structure.positions).mean(0)
    atoms = (structure.positions - center) @ turn
    edges = (corners - center) @ turn
    reach = max(1.5, float(np.abs(np.concatenate([atoms, edges])[:, :2]).max()) + 0.8)
    scale = 0.5 * size / reach
    pen = ImageDraw.Draw(tile)
    for a, b in _cell_edges(edges):
        pen.line([*_place(a, scale, size), *_place(b, scale, size)], (160, 160, 160), _OVERSAMPLING)
    for _, at, what in sorted(_parts(structure, atoms), key=lambda part: part[0]):
        if isinstance(what, int):
            _ball(pen, _place(at, scale, size), 0.45 * _radius(what) * scale + 2, _color(what))
        else:
            ends = [*_place(at, scale, size), *_place(what, scale, size)]
            pen.line(ends, (150, 150, 150), max(1, int(0.16 * scale)))
    return tile.resize((side, side), Image.Resampling.LANCZOS)


def _parts(structure: Structure, atoms: Floats) -> list[tuple[float, Floats, int | Floats]]:
    """Depth and position of each atom with its number, of each bond with its other end."""
    radii = np.array([_radius(number) for number in structure.numbers.tolist()])
    distances = np.linalg.norm(atoms[:, None] - atoms[None], axis=-1)
    joined = np.triu(distances < 1.2 * (radii[:, None] + radii[None]), k=1)
    numbered = zip(structure.numbers.tolist(), atoms, strict=True)
    balls = [(float(at[2]), at, number) for number, at in numbered]
    pairs = [(atoms[i], atoms[j]) for i, j in np.argwhere(joined)]
    return [*balls, *((float(min(a[2], b[2])) - 0.01, a, b) for a, b in pairs)]


def _view(structure: Structure) -> NDArray[np.float64]:
    """Axes of the screen as columns: the widest directions of a molecule, or a tilted cell."""
    around_x, around_y = _VIEW_ANGLES
    c, s = np.cos(around_x), np.sin(around_x)
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(around_y), np.sin(around_y)
    tilt = tilt @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    if structure.cell is not None or not np.isfinite(structure.positions).all():
        return tilt
    centered = structure.positions - structure.positions.mean(0)
    axes: NDArray[np.float64] = np.linalg.svd(centered)[2].T
    return axes


def _corners(structure: Structure) -> Floats:
    if structure.cell is None or not np.isfinite(structure.cell).all():
        return np.zeros((0, 3))
    corners: Floats = np.array(list(product((0.0, 1.0), repeat=3))) @ structure.cell
    return corners


def _cell_edges(corners: Floats) -> list[tuple[Floats, Floats]]:
    if not len(corners):
        return []
    pairs = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
    return [(corners[i], corners[j]) for i, j in pairs]


def _place(at: Floats, scale: float, size: int) -> tuple[float, float]:
    return size / 2 + float(at[0]) * scale, size / 2 - float(at[1]) * scale


def _ball(pen: ImageDraw.ImageDraw, at: tuple[float, float], radius: float, color: Color) -> None:
    x, y = at
    pen.ellipse(
        [x - radius, y - radius, x + radius, y + radius], color, (60, 60, 60), _OVERSAMPLING
    )
    x, y, r = x - 0.3 * radius, y - 0.3 * radius, 0.3 * radius
    light = tuple(int(0.5 * part + 127) for part in color)
    pen.ellipse([x - r, y - r, x + r, y + r], light)


def _color(number: int) -> Color:
    """The usual color of an element, or an arbitrary fixed one."""
    known = _COLORS.get(number)
    return known or (60 + number * 53 % 180, 60 + number * 97 % 180, 60 + number * 31 % 180)


def _radius(number: int) -> float:
    return _RADII.get(number, _DEFAULT_RADIUS)

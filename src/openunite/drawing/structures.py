"""Pictures of molecules and crystals: balls and sticks, and 2-D drawings."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from openunite.data.atoms.structure import Floats, Structure

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
    rows = -(-len(structures) // columns)
    canvas = Image.new("RGB", (columns * side, rows * side), "white")
    for i, structure in enumerate(structures):
        tile = _draw(structure, side)
        canvas.paste(tile, (i % columns * side, i // columns * side))
    return canvas


def pair_structures(
    first: Sequence[Structure], second: Sequence[Structure], side: int = 220
) -> Image.Image:
    """Structures of `first` above those of `second`; both of a pair are seen from one direction."""
    canvas = Image.new("RGB", (len(first) * side, 2 * side), "white")
    for i, (above, below) in enumerate(zip(first, second, strict=True)):
        view = _view(above)
        canvas.paste(_draw(above, side, view), (i * side, 0))
        canvas.paste(_draw(below, side, view), (i * side, side))
    return canvas


def drawing_grid(structures: Sequence[Structure], columns: int, side: int = 220) -> Image.Image:
    """2-D drawings of molecules with bonds from EDM's distance table, made by RDKit.

    A cross stands for a molecule that these bonds make invalid. ImportError names the extra to
    install if RDKit is missing.
    """
    from openunite.evaluation.molecules.edm_rdkit import edm_molecule

    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import Draw, rdDepictor
    except ImportError as error:
        raise ImportError("2-D drawings need RDKit: pip install 'openunite[molecules]'") from error
    rows = -(-len(structures) // columns)
    canvas = Image.new("RGB", (columns * side, rows * side), "white")
    for i, structure in enumerate(structures):
        left, top = i % columns * side, i // columns * side
        molecule = edm_molecule(structure)
        if molecule is None:
            _cross(canvas, left, top, side)
        else:
            for atom in molecule.GetAtoms():
                atom.SetNoImplicit(True)  # a stray hydrogen is drawn as H, not as H2
            with rdBase.BlockLogs():  # RDKit warns of each hydrogen without a bond
                flat = Chem.RemoveHs(molecule, sanitize=False)
            rdDepictor.Compute2DCoords(flat)
            canvas.paste(Draw.MolToImage(flat, size=(side, side)), (left, top))
    return canvas


def _cross(canvas: Image.Image, left: int, top: int, side: int) -> None:
    pen, edge = ImageDraw.Draw(canvas), 0.4 * side
    for a, b in (((0, 0), (1, 1)), ((0, 1), (1, 0))):
        ends = [(left + edge + x * 0.2 * side, top + edge + y * 0.2 * side) for x, y in (a, b)]
        pen.line(ends, fill=(200, 200, 200), width=3)


def _draw(structure: Structure, side: int, view: Floats | None = None) -> Image.Image:
    """One tile; distant parts are drawn first."""
    size = side * _OVERSAMPLING
    tile = Image.new("RGB", (size, size), "white")
    if not np.isfinite(structure.positions).all():
        _cross(tile, 0, 0, size)
        return tile.resize((side, side))
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
    for kind, *what in sorted(_parts(structure, atoms), key=lambda part: part[1]):
        if kind == "bond":
            _, a, b = what
            width = max(1, int(0.16 * scale))
            pen.line([*_place(a, scale, size), *_place(b, scale, size)], (150, 150, 150), width)
        else:
            _, at, number = what
            _ball(pen, _place(at, scale, size), 0.45 * _radius(number) * scale + 2, _color(number))
    return tile.resize((side, side), Image.Resampling.LANCZOS)


def _parts(structure: Structure, atoms: Floats) -> list[tuple]:
    """Tuples ("atom", depth, position, number) and ("bond", depth, position, position)."""
    radii = np.array([_radius(number) for number in structure.numbers.tolist()])
    distances = np.linalg.norm(atoms[:, None] - atoms[None], axis=-1)
    joined = np.triu(distances < 1.2 * (radii[:, None] + radii[None]), k=1)
    parts: list[tuple] = []
    for number, at in zip(structure.numbers.tolist(), atoms, strict=True):
        parts.append(("atom", float(at[2]), at, number))
    for i, j in np.argwhere(joined):
        depth = float(min(atoms[i, 2], atoms[j, 2])) - 0.01
        parts.append(("bond", depth, atoms[i], atoms[j]))
    return parts


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

"""A molecule or a crystal: atomic numbers, positions and, for a crystal, a cell."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Structure:
    """`numbers` (N,) atomic numbers; `positions` (N, 3) Cartesian, Angstrom; `cell` (3, 3) or None.

    The rows of `cell` are the lattice vectors in Angstrom; a molecule has none. `name` says where
    the structure came from ("set.sdf, record 12"), for messages. `info` is what its file says of it
    beside the atoms, text by name: data fields of SDF, keys of extended xyz, columns of CSV.
    """

    numbers: Ints
    positions: Floats
    cell: Floats | None = None
    name: str = ""
    info: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.numbers.ndim != 1 or self.positions.shape != (len(self.numbers), 3):
            raise ValueError(
                f"expected numbers (N,) and positions (N, 3), got {self.numbers.shape} and "
                f"{self.positions.shape}"
            )
        if self.cell is not None and self.cell.shape != (3, 3):
            raise ValueError(f"expected a cell of shape (3, 3), got {self.cell.shape}")

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def is_finite(self) -> bool:
        """Whether all positions, and all entries of the cell if there is one, are finite."""
        parts = (self.positions,) if self.cell is None else (self.positions, self.cell)
        return all(bool(np.isfinite(part).all()) for part in parts)

    @property
    def fractional(self) -> Floats:
        """Fractional coordinates (N, 3), not wrapped. ValueError for a molecule."""
        if self.cell is None:
            raise ValueError("a molecule has no cell and no fractional coordinates")
        return np.linalg.solve(self.cell.T, self.positions.T).T.astype(np.float64)

"""Many structures packed into a few arrays, and the result of a reader."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from openunite.data.atoms.structure import Floats, Ints, Structure
from openunite.data.holdout import Skipped
from openunite.files import atomic_file, read_npz

TRAIN, VAL, TEST = 0, 1, 2
_ATOMS = ("n_atoms", "z", "pos", "cell", "frac", "lattice", "names", "ids", "prop_names")


@dataclass(frozen=True, eq=False)
class Columns(Sequence[Mapping[str, str]]):
    """What is known of S structures, by name: arrays (S,) of numbers or text; NaN is missing."""

    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values()), ()))

    @overload
    def __getitem__(self, i: int) -> Mapping[str, str]: ...

    @overload
    def __getitem__(self, i: slice) -> list[Mapping[str, str]]: ...

    def __getitem__(self, i: int | slice) -> Mapping[str, str] | list[Mapping[str, str]]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        texts = {name: str(array[i]) for name, array in self.arrays.items()}
        return {name: text for name, text in texts.items() if text not in ("", "nan")}


@dataclass(frozen=True, eq=False)
class StructureArrays(Sequence[Structure]):
    """A sequence of S structures with A atoms in all.

    `numbers` uint8 (A,) and `positions` (A, 3) in Angstrom: structure i has the rows `offsets[i]`
    to `offsets[i + 1]`; `cells` (S, 3, 3) in Angstrom or None; `names` one per structure,
    `infos` too, or none.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.floating[Any]]
    offsets: Ints
    names: Sequence[str]
    cells: Floats | None = None
    infos: Sequence[Mapping[str, str]] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, i: int) -> Structure: ...

    @overload
    def __getitem__(self, i: slice) -> list[Structure]: ...

    def __getitem__(self, i: int | slice) -> Structure | list[Structure]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        at = range(len(self))[i]  # negative positions, and IndexError outside
        rows = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        return Structure(
            self.numbers[rows].astype(np.int64),
            self.positions[rows].astype(np.float64),
            None if self.cells is None else self.cells[at],
            self.names[at],
            self.infos[at] if self.infos else {},
        )

    @property
    def sizes(self) -> Ints:
        """Number of atoms of each structure (S,)."""
        return np.diff(self.offsets)

    def save(self, path: str | Path) -> None:
        """Write the .npz that `load_arrays` and the readers open."""
        arrays: dict[str, Any] = {
            "n_atoms": self.sizes,
            "z": self.numbers,
            "pos": self.positions,
            "names": np.bytes_("\n".join(self.names).encode()),
        }
        if self.cells is not None:
            arrays["cell"] = self.cells
        if isinstance(self.infos, Columns):
            arrays |= {k: v for k, v in self.infos.arrays.items() if k not in arrays}
        with atomic_file(Path(path)) as file:
            np.savez(file, **arrays)


@dataclass(frozen=True)
class Reading:
    """What a reader returns: structures, what could not be read, and the source's own split.

    `split` (S,) holds 0 (train), 1 (validation) or 2 (test); None if the source has no split.
    """

    name: str
    structures: StructureArrays
    skipped: tuple[Skipped, ...] = ()
    split: Ints | None = None


def pack(structures: Iterable[Structure], dtype: DTypeLike = np.float64) -> StructureArrays:
    """Structures -> arrays, positions as `dtype`. ValueError if only some of them have a cell."""
    found = list(structures)
    cells = [item.cell for item in found if item.cell is not None]
    if cells and len(cells) < len(found):
        raise ValueError(
            f"expected crystals or molecules, got {len(cells)} structures with a cell and "
            f"{len(found) - len(cells)} without; pack them apart"
        )
    empty = np.zeros((0, 3))
    return StructureArrays(
        np.concatenate([empty[:, 0], *(item.numbers for item in found)]).astype(np.uint8),
        np.concatenate([empty, *(item.positions for item in found)]).astype(dtype),
        offsets_of([len(item) for item in found]),
        tuple(item.name for item in found),
        np.stack(cells) if cells else None,
        tuple(item.info for item in found) if any(item.info for item in found) else (),
    )


def offsets_of(sizes: Sequence[int] | NDArray[Any]) -> Ints:
    """Numbers of atoms (S,) -> first rows (S + 1,)."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, dtype=np.int64))]).astype(np.int64)


def load_arrays(path: str | Path) -> StructureArrays:
    """Read an .npz with `n_atoms`, `z`, `pos` and perhaps `cell`, as `save` writes it.

    Shapes are (S,), (A,), (A, 3) and (S, 3, 3). ValueError names the array that does not fit. What
    else there is for each structure are its columns: see `stored_columns`.
    """
    found = read_npz(Path(path))
    sizes, numbers = atom_counts(found, path)
    positions = rows_of(found, "pos", (len(numbers), 3), path)
    cells = None
    if "cell" in found:
        cells = rows_of(found, "cell", (len(sizes), 3, 3), path).astype(np.float64)
    names = stored_names(found, len(sizes), path)
    columns = stored_columns(found, len(sizes))
    return StructureArrays(numbers, positions, offsets_of(sizes), names, cells, columns)


def stored_columns(found: Mapping[str, NDArray[Any]], count: int) -> Sequence[Mapping[str, str]]:
    """All other arrays of shape (S,), and the columns of `props` (S, P) named by `prop_names`."""
    columns = {k: v for k, v in found.items() if v.shape == (count,) and k not in _ATOMS}
    table, names = found.get("props"), found.get("prop_names")
    if table is not None and names is not None and table.shape == (count, *names.shape):
        columns |= zip(names.tolist(), table.T, strict=True)
    columns = {str(k): v for k, v in columns.items() if v.dtype.kind in "iufU"}
    return Columns(columns) if columns and count else ()


def atom_counts(
    found: Mapping[str, NDArray[Any]], path: str | Path
) -> tuple[Ints, NDArray[np.uint8]]:
    """`n_atoms` as int64 (S,) and `z` as uint8 (A,), checked against each other."""
    for key in ("n_atoms", "z"):
        if key not in found or found[key].ndim != 1 or found[key].dtype.kind not in "iu":
            got = f"{found[key].dtype} {found[key].shape}" if key in found else "no such array"
            raise ValueError(f"{path} needs {key!r}, one row of integers, got {got}")
    sizes, numbers = found["n_atoms"].astype(np.int64), found["z"]
    total = sum(sizes.tolist())  # Python integers do not overflow
    if (sizes < 0).any() or total != len(numbers):
        raise ValueError(
            f"{path}: 'n_atoms' counts {total} atoms but 'z' has {len(numbers)}; they must agree"
        )
    # Numbers that do not fit into uint8 become 0, and `find_faults` rejects those records.
    return sizes, np.where((numbers < 0) | (numbers > 255), 0, numbers).astype(np.uint8)


def rows_of(
    found: Mapping[str, NDArray[Any]], key: str, shape: tuple[int, ...], path: str | Path
) -> NDArray[np.floating[Any]]:
    """The array of floats called `key`. ValueError unless it has the given shape."""
    if key not in found or found[key].shape != shape or found[key].dtype.kind != "f":
        got = f"{found[key].dtype} {found[key].shape}" if key in found else "no such array"
        raise ValueError(f"{path} needs {key!r}, floats of shape {shape}, got {got}")
    return found[key]


def stored_names(
    found: Mapping[str, NDArray[Any]], count: int, path: str | Path
) -> tuple[str, ...]:
    """The names saved with the structures, else "file, record i"."""
    stored = found.get("names")
    if stored is not None and stored.shape == () and stored.dtype.kind == "S":
        names = tuple(bytes(stored.item()).decode(errors="replace").split("\n"))
        if len(names) == count:
            return names
    if stored is not None and stored.shape == (count,) and stored.dtype.kind == "U":
        return tuple(stored.tolist())
    return tuple(f"{Path(path).name}, record {i}" for i in range(1, count + 1))

"""Structures as padded tensors and back."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from openunite.data.atoms.structure import Structure


def pad_structures(structures: Sequence[Structure]) -> dict[str, Tensor]:
    """Structures, with a cell or without, as tensors with one row each; names are not kept."""
    sizes = [len(item) for item in structures]
    numbers = np.zeros((len(sizes), max(sizes)), dtype=np.int64)
    positions = np.zeros((len(sizes), max(sizes), 3))
    for i, item in enumerate(structures):
        numbers[i, : sizes[i]], positions[i, : sizes[i]] = item.numbers, item.positions
    cells = [np.zeros((3, 3)) if item.cell is None else item.cell for item in structures]
    return {
        "sizes": torch.tensor(sizes),
        "numbers": torch.from_numpy(numbers),
        "positions": torch.from_numpy(positions),
        "periodic": torch.tensor([item.cell is not None for item in structures]),
        "cells": torch.from_numpy(np.stack(cells)),
    }


def unpad_structures(tensors: Mapping[str, Tensor]) -> list[Structure]:
    """The inverse of `pad_structures`."""
    keys = ("sizes", "numbers", "positions", "periodic", "cells")
    rows = zip(*(tensors[key].numpy() for key in keys), strict=True)
    return [
        Structure(numbers[:size], positions[:size], cell if periodic else None)
        for size, numbers, positions, periodic, cell in rows
    ]

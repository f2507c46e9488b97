"""Classes of atoms by hand: hydrogens, heavy neighbors, bond orders."""

import pytest
import torch
from tests.evaluation.molecules.examples import ACETYLENE, CARBON_DIOXIDE, ETHYLENE, METHANE
from torch import Tensor

from openunite.data.atoms.arrays import pack
from openunite.data.atoms.structure import Structure
from openunite.data.molecules.dataset import molecule_dataset
from openunite.modalities.molecule.states import atom_states, bond_limits
from openunite.modalities.molecule.tokens import is_heavy

ELEMENTS = (1, 6, 7, 8, 9)


def states_of(*structures: Structure, elements: tuple[int, ...] = ELEMENTS) -> Tensor:
    rows = torch.arange(len(structures)).numpy()
    data = molecule_dataset(pack(structures), rows, elements).batch(rows.tolist()).data
    return atom_states(data, is_heavy(data[..., 0], elements), bond_limits(elements))


def test_hydrogens_neighbors_and_orders_by_hand() -> None:
    methane = states_of(METHANE)[0]
    assert methane.tolist() == [[4, 0, 0]] + [[0, 1, 1]] * 4
    ethylene = states_of(ETHYLENE)[0]
    assert ethylene.tolist() == [[2, 1, 0], [2, 1, 2]] + [[0, 1, 1]] * 4
    assert states_of(ACETYLENE)[0, :2].tolist() == [[1, 1, 0], [1, 1, 3]]


def test_padding_and_an_atom_at_the_center_change_nothing() -> None:
    padded = states_of(CARBON_DIOXIDE, ETHYLENE)[0, :3]
    alone = states_of(CARBON_DIOXIDE, elements=(6, 8))[0]  # carbon is a row of zeros
    assert padded.tolist() == alone.tolist() == [[0, 2, 0], [0, 1, 3], [0, 1, 3]]  # 1.16 A


@pytest.mark.parametrize(
    ("pair", "length", "order"),
    [
        ((6, 6), 1.54, 1),
        ((6, 6), 1.34, 2),
        ((6, 6), 1.20, 3),
        ((6, 7), 1.47, 1),
        ((6, 7), 1.16, 3),
        ((6, 8), 1.43, 1),
        ((6, 8), 1.21, 2),
        ((6, 9), 1.35, 1),
        ((6, 16), 1.81, 1),
        ((6, 17), 1.77, 1),
        ((1, 6), 1.09, 1),
        ((26, 26), 2.4, 1),
        ((6, 6), 2.5, 0),
    ],
)
def test_typical_lengths_have_their_order(pair: tuple[int, int], length: float, order: int) -> None:
    limits = bond_limits(pair)[:, 0, 1]
    assert int((length < limits).sum()) == order
    assert bool((limits[:-1] >= limits[1:]).all())

"""Columns beside a data set: rows of a batch have their own values, and the data keep theirs."""

import pickle

import torch

from openunite.batch import CLASS, Batch, Given
from openunite.data.conditions import ConditionedDataset, table


class Squares:
    """Ten samples with a class; their batches come in the order that is asked for."""

    sizes = None

    def __len__(self) -> int:
        return 10

    def batch(self, indices: list[int]) -> Batch:
        at = torch.tensor(indices)
        return Batch(at[:, None] ** 2, at, conditions={CLASS: Given.of_all(at % 2)})


def test_a_batch_has_the_values_of_its_samples() -> None:
    gap = table([[float(i), float(i)] if i != 3 else None for i in range(10)])
    data = ConditionedDataset(Squares(), {"gap": gap})
    assert (len(data), data.sizes) == (10, None)
    found = pickle.loads(pickle.dumps(data)).batch([4, 3, 9])
    assert found.data.flatten().tolist() == [16, 9, 81]
    assert found.conditions[CLASS].values.tolist() == [0, 1, 1]
    assert found.conditions["gap"].known.tolist() == [True, False, True]
    assert found.conditions["gap"].values.tolist() == [[4.0, 4.0], [0.0, 0.0], [9.0, 9.0]]
    assert found.to("meta").conditions["gap"].values.device.type == "meta"


def test_a_table_without_values_has_no_columns() -> None:
    assert table([None, None]).values.shape == (2, 0)

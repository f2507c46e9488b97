"""Batches, and what is known of their samples."""

from unittest.mock import patch

import pytest
import torch
from tests.conftest import rows_of
from torch import Tensor

from openunite.batch import CLASS, NOTHING, Batch, Evidence, Given

FIRST_TWO = torch.tensor([True, True, False])


def given() -> Given:
    return Given(torch.tensor([4, 0, 7]), FIRST_TWO)


def images() -> Tensor:
    return torch.arange(3.0)[:, None, None, None].expand(3, 1, 2, 2)


def batch() -> Batch:
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    return Batch(torch.rand(3, 2, 4), torch.tensor([5, 3, 9]), mask, {CLASS: given()})


def test_what_all_have_is_known_of_every_sample() -> None:
    values = torch.tensor([2, 0])
    made = Evidence.of_classes(values)
    assert made.observation is None
    assert list(made.conditions) == [CLASS]
    assert made.conditions[CLASS].values is values
    assert made.conditions[CLASS].known.tolist() == [True, True]


def test_dropping_makes_unknown_and_nothing_known() -> None:
    dropped = torch.tensor([True, False, False])
    evidence = Evidence({CLASS: given(), "size": Given.of_all(torch.rand(3, 2))}, images())
    found = evidence.drop(dropped)
    assert found.conditions[CLASS].known.tolist() == [False, True, False]
    assert found.conditions["size"].known.tolist() == [False, True, True]
    assert torch.equal(found.conditions[CLASS].values, given().values)
    assert found.observation is evidence.observation
    assert evidence.conditions[CLASS].known.tolist() == [True, True, False]


def test_copies_follow_each_other_batch_by_batch() -> None:
    """The order of `Tensor.repeat`, which the latents of several draws have."""
    size = torch.rand(3, 2)
    evidence = Evidence({CLASS: given(), "size": Given.of_all(size)}, images()).repeat(2)
    assert evidence.conditions[CLASS].values.tolist() == [4, 0, 7, 4, 0, 7]
    assert evidence.conditions[CLASS].known.tolist() == [True, True, False] * 2
    assert torch.equal(evidence.conditions["size"].values, torch.cat([size, size]))
    assert evidence.observation is not None
    assert evidence.observation[:, 0, 0, 0].tolist() == [0.0, 1.0, 2.0] * 2
    assert evidence.observation.shape == (6, 1, 2, 2)


def test_rows_are_cut_in_every_part() -> None:
    part = Evidence({CLASS: given()}, images()).rows(slice(1, 3))
    assert part.conditions[CLASS].values.tolist() == [0, 7]
    assert part.conditions[CLASS].known.tolist() == [True, False]
    assert part.observation is not None
    assert part.observation[:, 0, 0, 0].tolist() == [1.0, 2.0]


def test_nothing_stays_nothing() -> None:
    for found in (
        NOTHING.repeat(3),
        NOTHING.rows(slice(0, 1)),
        NOTHING.drop(FIRST_TWO),
        NOTHING.to("cpu"),
    ):
        assert dict(found.conditions) == {}
        assert found.observation is None


def test_evidence_goes_to_a_device_whole() -> None:
    there = Evidence({CLASS: given()}, images()).to("meta")
    assert there.observation is not None
    places = [there.observation, there.conditions[CLASS].values, there.conditions[CLASS].known]
    assert [x.device.type for x in places] == ["meta"] * 3


def parts(found: Batch) -> list[Tensor]:
    classes = found.conditions[CLASS]
    return [found.data, found.index, found.valid, classes.values, classes.known]


def test_a_batch_goes_to_a_device_whole() -> None:
    assert [x.device.type for x in parts(batch().to("meta"))] == ["meta"] * 5
    assert Batch(images(), torch.arange(3)).to("meta").mask is None


def test_a_batch_is_pinned_whole() -> None:
    """PyTorch's loader calls it; a machine without a GPU has no such memory."""
    made, pinned = batch(), []
    with patch.object(Tensor, "pin_memory", lambda x: pinned.append(x) or x.clone()):
        found = made.pin_memory()
    assert {id(x) for x in pinned} == {id(x) for x in parts(made)}
    assert all(torch.equal(a, b) for a, b in zip(parts(found), parts(made), strict=True))
    assert not {id(x) for x in parts(found)} & {id(x) for x in parts(made)}


def test_other_data_leave_the_rest_as_it_is() -> None:
    made, data = batch(), torch.rand(3, 2, 7)
    changed = made.with_data(data)
    assert changed.data is data
    assert all(a is b for a, b in zip(parts(changed)[1:], parts(made)[1:], strict=True))


def test_the_length_is_the_number_of_samples() -> None:
    assert len(batch()) == 3
    assert len(rows_of(batch(), [2])) == 1


def test_without_a_mask_there_is_no_valid() -> None:
    assert batch().valid is not None
    with pytest.raises(ValueError, match="expected a batch with a mask"):
        _ = Batch(images(), torch.arange(3)).valid

"""Position tables, rotary angles, time and class, number by number."""

import math

import pytest
import torch

from openunite.batch import Given
from openunite.nn.embeddings import (
    ClassEmbedding,
    TimeEmbedding,
    rotary_angles,
    sincos_grid,
    sincos_table,
)


def sincos_by_hand(position: int, width: int) -> list[float]:
    rates = [10000.0 ** (-i / (width / 2)) for i in range(width // 2)]
    return [math.sin(position * w) for w in rates] + [math.cos(position * w) for w in rates]


def test_the_register_table_is_the_formula() -> None:
    expected = torch.tensor([sincos_by_hand(p, 8) for p in range(300)])
    torch.testing.assert_close(sincos_table(torch.arange(300), 8), expected, rtol=0, atol=1e-6)


def test_the_grid_is_row_major_with_columns_first() -> None:
    table = sincos_grid(3, 5, 16)
    expected = [sincos_by_hand(c, 8) + sincos_by_hand(r, 8) for r in range(3) for c in range(5)]
    torch.testing.assert_close(table, torch.tensor(expected), rtol=0, atol=1e-6)


def test_a_grid_needs_a_width_divisible_by_four() -> None:
    with pytest.raises(ValueError, match="divisible by 4, got 6"):
        sincos_grid(2, 2, 6)


def test_rotary_angles_are_the_formula_in_double() -> None:
    angles = rotary_angles(600, 6)
    assert angles.dtype == torch.float64
    expected = [[p * 10000.0 ** (-2 * i / 6) for i in range(3)] for p in range(600)]
    torch.testing.assert_close(angles, torch.tensor(expected, dtype=torch.float64))


def test_time_features_are_the_formula() -> None:
    embedding = TimeEmbedding(8, num_frequencies=5).double()
    t = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    angles = 2 * math.pi * torch.outer(t, embedding.frequencies)
    hidden = embedding.mlp_in(torch.cat([angles.sin(), angles.cos()], dim=1))
    expected = embedding.mlp_out(hidden * torch.sigmoid(hidden))
    torch.testing.assert_close(embedding(t), expected)


def test_time_frequencies_are_fixed_saved_and_standard_normal() -> None:
    torch.manual_seed(1)
    first = TimeEmbedding(8)
    torch.manual_seed(2)
    second = TimeEmbedding(8)
    assert torch.equal(first.frequencies, second.frequencies)
    assert "frequencies" in first.state_dict()
    assert "frequencies" not in dict(first.named_parameters())
    assert first.frequencies.shape == (256,)
    assert abs(float(first.frequencies.std()) - 1.0) < 0.15


def test_nearby_times_are_told_apart() -> None:
    embedding = TimeEmbedding(32)
    a, b = embedding(torch.tensor([0.500, 0.505]))
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("num_classes", [0, 1, 10])
def test_a_class_that_is_not_known_has_the_last_row(num_classes: int) -> None:
    embedding = ClassEmbedding(num_classes, 4)
    assert embedding.weight.shape == (num_classes + 1, 4)
    assert torch.equal(embedding.of(None, 3), embedding.weight[-1:].expand(3, -1))
    given = Given(torch.arange(num_classes + 2), torch.arange(num_classes + 2) < num_classes)
    found = embedding.of(given, num_classes + 2)
    assert torch.equal(found[:num_classes], embedding.weight[:-1])
    assert torch.equal(found[num_classes:], embedding.weight[-1:].expand(2, -1))

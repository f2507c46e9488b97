"""KID, precision and recall, inception score, against sums written out and known cases."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from openunite.evaluation.feature_metrics import (
    class_accuracy,
    copies,
    inception_score,
    kernel_distance,
    mmd_error,
    nearest,
    precision,
    unbiased_mmd,
)


def normal(count: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) + shift


def test_mmd_equals_the_double_sum() -> None:
    x, y = normal(5, 3, 0).numpy(), normal(7, 3, 1, 0.5).numpy()

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = np.mean([k(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    within_y = np.mean([k(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
    between = np.mean([k(a, b) for a in x for b in y])
    expected = within_x + within_y - 2 * between
    assert unbiased_mmd(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(expected)


def test_kid_is_unbiased() -> None:
    """Between sets of one distribution its mean is zero; the biased estimate's is not."""
    values, biased = [], []
    for trial in range(300):
        x, y = normal(10, 4, 2 * trial), normal(10, 4, 2 * trial + 1)
        values.append(unbiased_mmd(x, y))
        diagonal = sum(float(((a * a).sum(1) / 4 + 1).pow(3).mean()) / 10 for a in (x, y))
        biased.append(values[-1] + diagonal)
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert np.mean(biased) > 10 * error


def test_kid_of_subsets_is_seeded_and_sees_a_shift() -> None:
    x, y = normal(300, 8, 0), normal(250, 8, 1)
    first = kernel_distance(x, y, subsets=10, subset_size=100, seed=3)
    assert first == kernel_distance(x, y, subsets=10, subset_size=100, seed=3)
    assert first != kernel_distance(x, y, subsets=10, subset_size=100, seed=4)
    far = kernel_distance(x, y + 1.0, subsets=10, subset_size=100)
    assert far.value > abs(first.value) + 5 * far.error
    many = kernel_distance(x, y, subsets=400, subset_size=10_000)  # halves of the smaller set
    assert many.error > 0.0
    assert many.value == pytest.approx(unbiased_mmd(x, y), abs=many.error / 2)


def test_the_error_of_kid_is_the_jackknife_of_its_definition() -> None:
    x, y = normal(6, 3, 0), normal(8, 3, 1, 0.5)
    variance = 0.0
    for points, left_out in (
        (6, [unbiased_mmd(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(6)]),
        (8, [unbiased_mmd(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(8)]),
    ):
        variance += (points - 1) * np.var(left_out)
    assert mmd_error(x, y) == pytest.approx(math.sqrt(variance))


def test_the_error_of_kid_is_the_spread_over_samples() -> None:
    pairs = [(normal(60, 4, 2 * i), normal(60, 4, 2 * i + 1, 1.0)) for i in range(100)]
    spread = np.std([unbiased_mmd(x, y) for x, y in pairs])
    assert np.mean([mmd_error(x, y) for x, y in pairs]) == pytest.approx(spread, rel=0.2)


def test_copies_are_nearer_to_training_points_than_held_out_points() -> None:
    train, held_out = normal(500, 6, 0), normal(200, 6, 1)
    others = normal(1000, 6, 2)
    assert copies(others, held_out, train).value < 0.03
    noise = 1e-3 * normal(50, 6, 3)
    mixed = torch.cat([train[:50] + noise, others[:150]])
    found = copies(mixed, held_out, train)
    assert found.value == pytest.approx(0.25, abs=0.02)
    assert found.total == 200
    assert copies(held_out, held_out, train).value == pytest.approx(0.01)  # by definition


def test_the_distance_of_a_copy_is_exactly_zero() -> None:
    points = 100.0 + normal(300, 64, 0).float()
    assert nearest(points[:40], points).tolist() == [0.0] * 40
    assert nearest(points[:1] + 3.0, points[:1]).item() == pytest.approx(24.0, rel=1e-5)


def test_precision_and_recall_by_hand() -> None:
    """On a line with k = 1: reference 0, 1, 10, 11 has radii 1; samples are 0.5, 2.5 and 10.5."""
    reference = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    samples = torch.tensor([[0.5], [2.5], [10.5]])
    assert precision(samples, reference, neighbors=1) == pytest.approx(2 / 3)
    assert precision(reference, samples, neighbors=1) == 1.0  # radii of the samples: 2, 2, 8


def test_one_mode_of_two_has_precision_without_recall() -> None:
    reference = torch.cat([normal(200, 4, 0), normal(200, 4, 1, 50.0)])
    samples = normal(200, 4, 2)
    assert precision(samples, reference) > 0.8
    assert 0.3 < precision(reference, samples) < 0.51
    assert precision(reference, reference) == 1.0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(50, 4, 0), normal(60, 4, 1, 0.3)
    whole = precision(x, y)
    monkeypatch.setattr("openunite.evaluation.feature_metrics._CHUNK", 7)
    assert precision(x, y) == whole


def test_inception_score_of_sure_and_unsure_logits() -> None:
    labels = torch.arange(40) % 4
    sure = 100.0 * torch.nn.functional.one_hot(labels, 4)
    assert inception_score(sure, splits=2).value == pytest.approx(4.0)
    assert inception_score(torch.zeros(40, 4), splits=2).value == pytest.approx(1.0)
    p = np.array([[0.8, 0.2], [0.4, 0.6]])
    q = p.mean(0)
    expected = math.exp(np.mean((p * np.log(p / q)).sum(1)))
    score = inception_score(torch.from_numpy(np.log(p)), splits=1)
    assert score.value == pytest.approx(expected)
    assert score.error == 0.0


def test_inception_score_of_saturated_logits() -> None:
    """A class that no image can be: its share is smaller than any float."""
    sure = 1e4 * torch.nn.functional.one_hot(torch.arange(40) % 4, 5).float()
    assert inception_score(sure, splits=2).value == pytest.approx(4.0)


def test_class_accuracy() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert class_accuracy(logits, torch.tensor([1, 0, 0])).value == pytest.approx(2 / 3)


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ValueError, match="one width"):
        kernel_distance(normal(5, 3, 0), normal(5, 4, 0))
    with pytest.raises(ValueError, match="more than 3 features"):
        precision(normal(3, 2, 0), normal(9, 2, 0))
    with pytest.raises(ValueError, match="at least 10 samples"):
        inception_score(torch.zeros(9, 3))

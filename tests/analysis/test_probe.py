"""Probes against scikit-learn, and on data whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from openunite.analysis.probe import Split, linear_probe, nearest_neighbors, probe_latents


def clusters(count: int, distance: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Three classes of points in five dimensions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centers = distance * torch.eye(5)[:3]
    return centers[labels] + torch.randn(count, 5, generator=generator), labels


def split(distance: float) -> Split:
    return Split(*clusters(150, distance), *clusters(90, distance, seed=1))


def test_separable_classes_are_found_and_random_labels_are_not() -> None:
    easy = split(30.0)
    assert linear_probe(easy) == 1.0
    assert nearest_neighbors(easy) == 1.0
    hard = split(0.0)
    assert abs(linear_probe(hard) - 1 / 3) < 0.15
    assert abs(nearest_neighbors(hard) - 1 / 3) < 0.15


def test_linear_probe_is_scikit_learns_logistic_regression() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    data, decay = split(1.5), 0.05
    mean, deviation = data.train.mean(0), data.train.std(0)
    model = linear.LogisticRegression(C=1 / (decay * len(data.train)), tol=1e-8, max_iter=1000)
    model.fit(((data.train - mean) / deviation).numpy(), data.train_labels.numpy())
    expected = model.score(((data.test - mean) / deviation).numpy(), data.test_labels.numpy())
    assert 0.5 < expected < 0.95
    assert linear_probe(data, decay) == pytest.approx(expected, abs=1e-9)


def test_neighbors_are_scikit_learns() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    data = split(2.0)
    model = neighbors.KNeighborsClassifier(n_neighbors=7).fit(data.train, data.train_labels)
    assert nearest_neighbors(data, 7) == pytest.approx(model.score(data.test, data.test_labels))


def test_features_that_do_not_vary_are_ignored() -> None:
    data = split(30.0)
    train = torch.cat([data.train, torch.full((150, 1), 7.0)], dim=1)
    test = torch.cat([data.test, torch.full((90, 1), -1e6)], dim=1)
    assert linear_probe(Split(train, data.train_labels, test, data.test_labels)) == 1.0


def test_each_register_is_probed_alone() -> None:
    """Only register 1 knows the class; the pixels know nothing."""
    (train, labels), (test, test_labels) = clusters(150, 30.0), clusters(90, 30.0, seed=1)
    generator = torch.Generator().manual_seed(2)

    def latents(known: Tensor) -> Tensor:
        noise = torch.randn(len(known), 5, generator=generator)
        return torch.stack([noise, known], dim=1)

    pixels = (torch.rand(150, 1, 4, 4), torch.rand(90, 1, 4, 4))
    result = probe_latents((latents(train), latents(test)), pixels, (labels, test_labels))
    assert result.linear["latents"] == 1.0
    assert float(result.register_linear[1]) == 1.0
    assert float(result.register_linear[0]) < 0.6
    assert result.linear["pixels"] < 0.6
    assert result.chance == pytest.approx(1 / 3)
    assert np.isclose(result.numbers()["linear probe, best register"], 1.0)
    assert len(result.figure().axes) == 2

"""CKA and CKNNA: invariances, chance level, and sums written out by hand."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from openunite.analysis.similarity import cknna, hsic_terms, ratio


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_cka(x: Tensor, y: Tensor, batch_size: int = 1000) -> float:
    """1 if equal up to rotation and scale, 0 on average if independent."""
    pairs = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return float(ratio(torch.stack([hsic_terms(a, b) for a, b in pairs]).sum(0)))


def rotation(size: int, seed: int = 5) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=seed)).Q


@pytest.mark.parametrize("score", [linear_cka, cknna])
def test_rotation_scale_and_shift_change_nothing(score) -> None:
    x = normal(60, 8)
    y = x @ normal(8, 5, seed=1) + normal(60, 5, seed=2)
    assert score(x, x) == pytest.approx(1.0)
    moved = 3.7 * x @ rotation(8) + 11.0
    assert score(moved, x) == pytest.approx(1.0)
    assert score(moved, 0.01 * y) == pytest.approx(score(x, y))
    assert score(y, x) == pytest.approx(score(x, y))
    assert score(x * torch.tensor([100.0] + 7 * [1.0]), y) != pytest.approx(score(x, y), abs=1e-2)


def test_independent_features_score_zero_even_when_there_are_more_of_them_than_samples() -> None:
    scores = [linear_cka(normal(40, 300, seed=i), normal(40, 300, seed=99 + i)) for i in range(30)]
    mean, error = torch.tensor(scores).mean(), torch.tensor(scores).std() / math.sqrt(30)
    assert abs(mean) < 3 * error
    x, y = normal(40, 300), normal(40, 300, seed=99)
    x, y = x - x.mean(0), y - y.mean(0)
    biased = (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())
    assert biased > 0.8  # what the estimator without correction says


def test_unbiased_hsic_is_the_u_statistic() -> None:
    """Its definition sums over four different indices (Song et al., 2012)."""
    x, y = normal(7, 2), normal(7, 3, seed=1)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    total = 0.0
    for i, j, q, r in product(range(7), repeat=4):
        if len({i, j, q, r}) == 4:
            total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
    assert float(hsic_terms(x, y)[0]) == pytest.approx(float(total) / (7 * 6 * 5 * 4))


def test_minibatches_agree_with_the_whole() -> None:
    x = normal(600, 6)
    y = x[:, :3] + normal(600, 3, seed=1)
    assert linear_cka(x, y, batch_size=100) == pytest.approx(linear_cka(x, y), abs=0.02)
    halves = hsic_terms(x[:300], y[:300]) + hsic_terms(x[300:], y[300:])
    assert linear_cka(x, y, batch_size=300) == pytest.approx(float(ratio(halves)))


def test_constant_activations_have_no_cka() -> None:
    assert math.isnan(linear_cka(torch.ones(20, 3), normal(20, 3)))


def test_cknna_by_hand_and_with_all_neighbors() -> None:
    x = normal(12, 3)
    y = x + 0.5 * normal(12, 3, seed=1)
    for neighbors in (3, 11):
        assert cknna(x, y, neighbors) == pytest.approx(by_hand(x, y, neighbors))


def by_hand(x: Tensor, y: Tensor, neighbors: int) -> float:
    def kernel(z: Tensor) -> list[list[float]]:
        z = z - z.mean(0)
        return [[float(a @ b / (a.norm() * b.norm())) for b in z] for a in z]

    def near(k: list[list[float]]) -> set[tuple[int, int]]:
        rows = range(len(k))
        ranked = {i: sorted((j for j in rows if j != i), key=lambda j: -k[i][j]) for i in rows}
        return {(i, j) for i in rows for j in ranked[i][:neighbors]}

    def align(k: list[list[float]], l: list[list[float]]) -> float:  # noqa: E741
        count = len(k)
        return sum(
            (k[i][j] - sum(k[i]) / count) * (l[i][j] - sum(l[i]) / count)
            for i, j in near(k) & near(l)
        )

    k, l = kernel(x), kernel(y)  # noqa: E741
    return align(k, l) / math.sqrt(align(k, k) * align(l, l))


def test_cknna_sees_local_likeness_and_not_chance() -> None:
    angle = 2 * math.pi * torch.rand(200, generator=torch.Generator().manual_seed(0))
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    squeezed = torch.stack([angle.cos(), angle.sin() + 0.1 * angle.cos() ** 2], dim=1)
    assert cknna(circle, squeezed) > 0.5
    assert cknna(normal(200, 5), normal(200, 5, seed=1)) < 0.15


@pytest.mark.parametrize("score", [hsic_terms, cknna])
def test_too_few_samples_are_refused(score) -> None:
    with pytest.raises(ValueError, match="larger minibatches"):
        score(normal(3, 2), normal(3, 2))

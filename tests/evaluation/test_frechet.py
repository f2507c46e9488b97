"""Frechet distance: closed forms, scipy's matrix root, streaming, refusals."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from openunite.evaluation.frechet import (
    FeatureAccumulator,
    GaussianStatistics,
    frechet_distance,
    statistics,
)


def features(count: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return noise @ mix + torch.randn(width, generator=generator, dtype=torch.float64)


def test_statistics_are_mean_and_unbiased_covariance() -> None:
    x = features(50, 6, 0)
    result = statistics(x)
    assert result.count == 50
    assert result.mean.dtype == result.covariance.dtype == torch.float64
    torch.testing.assert_close(result.mean, x.mean(0))
    torch.testing.assert_close(result.covariance, torch.cov(x.T))


@pytest.mark.parametrize(("count", "width"), [(500, 16), (20, 64)])
def test_distance_to_itself_is_zero(count: int, width: int) -> None:
    """Also where fewer samples than features leave the covariance singular."""
    a = statistics(features(count, width, 1))
    assert 0.0 <= frechet_distance(a, a) < 1e-6


def test_diagonal_gaussians_match_the_closed_form() -> None:
    """FD = sum (m_a - m_b)^2 + (s_a - s_b)^2 over independent axes."""
    means = torch.tensor([[0.0, 1.0, -2.0], [0.5, 1.0, 3.0]], dtype=torch.float64)
    deviations = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.5, 1.5]], dtype=torch.float64)
    a, b = (
        GaussianStatistics(m, torch.diag(s.square()), 100)
        for m, s in zip(means, deviations, strict=True)
    )
    expected = (means[0] - means[1]).square().sum() + (deviations[0] - deviations[1]).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("width", [3, 32])
def test_matches_the_matrix_root_of_scipy(width: int) -> None:
    a, b = statistics(features(400, width, 2)), statistics(features(300, width, 3))
    root = sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    shift = (a.mean - b.mean).numpy()
    expected = shift @ shift + np.trace(a.covariance.numpy() + b.covariance.numpy() - 2 * root.real)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_streaming_equals_at_once(size: int) -> None:
    """Means far from zero: a sum of squares would lose the covariance to cancellation."""
    x = features(100, 5, 4) + 1e6
    accumulator = FeatureAccumulator()
    for batch in x.split(size):
        accumulator.update(batch)
    accumulator.update(x[:0])
    streamed = accumulator.statistics()
    assert streamed.count == 100
    torch.testing.assert_close(streamed.mean, x.mean(0), rtol=1e-13, atol=0.0)
    torch.testing.assert_close(streamed.covariance, torch.cov(x.T), rtol=1e-7, atol=1e-7)


def test_results_do_not_change_when_more_is_added() -> None:
    accumulator = FeatureAccumulator().update(features(10, 3, 5))
    before = accumulator.statistics()
    mean, covariance = before.mean.clone(), before.covariance.clone()
    accumulator.update(features(10, 3, 6))
    assert torch.equal(before.mean, mean)
    assert torch.equal(before.covariance, covariance)


def test_float32_features_are_summed_in_float64() -> None:
    x = (features(200, 4, 7) + 1e3).float()
    torch.testing.assert_close(statistics(x).covariance, torch.cov(x.double().T))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least 2 samples, got {count}"):
        statistics(torch.ones(count, 4))


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="width 4, got 5"):
        FeatureAccumulator().update(features(8, 4, 0)).update(features(8, 5, 0))
    with pytest.raises(ValueError, match="got 4 and 5"):
        frechet_distance(statistics(features(8, 4, 0)), statistics(features(8, 5, 0)))
    with pytest.raises(ValueError, match="covariance"):
        GaussianStatistics(torch.zeros(3), torch.eye(4), 10)


def test_features_must_be_a_finite_matrix() -> None:
    x = features(8, 4, 0)
    x[3, 1], x[5, 2], x[5, 3] = torch.nan, torch.inf, torch.nan
    with pytest.raises(ValueError, match="in 2 of 8 samples"):
        statistics(x)
    with pytest.raises(ValueError, match="flatten"):
        statistics(torch.zeros(8, 4, 2))

"""Statistics of latents against closed forms, scipy and training's own."""

import math

import pytest
import torch

from openunite.analysis.latents import (
    gaussian_distance,
    latent_statistics,
    principal_variances,
)
from openunite.training import collapse


def latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_moments_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = latents(400, 3, 4).exp()  # skewed
    found = latent_statistics(values)
    channels = values.flatten(0, 1).T.double().numpy()
    assert found.skewness.numpy() == pytest.approx(stats.skew(channels, axis=1))
    assert found.kurtosis.numpy() == pytest.approx(stats.kurtosis(channels, axis=1))
    assert (found.skewness > 1.0).all()


def test_distance_to_a_gaussian_is_scipys_wasserstein_distance() -> None:
    stats = pytest.importorskip("scipy.stats")
    uniform = (torch.rand(1, 2000, generator=torch.Generator().manual_seed(0)).double() - 0.5) * 3.4
    grid = stats.norm.ppf((torch.arange(200_000).numpy() + 0.5) / 200_000)
    expected = stats.wasserstein_distance(uniform[0].numpy(), grid)
    assert float(gaussian_distance(uniform)) == pytest.approx(expected, abs=2e-3)
    assert float(gaussian_distance(latents(1, 20_000).double())) < 0.02


def test_effective_rank_of_equal_and_of_single_variances() -> None:
    assert collapse.rank_of_variances(torch.ones(7)) == pytest.approx(7.0)
    assert collapse.rank_of_variances(torch.tensor([3.0, 0.0])) == pytest.approx(1.0)
    assert collapse.rank_of_variances(torch.tensor([0.5, 0.25, 0.25])) == pytest.approx(
        math.exp(1.5 * math.log(2))
    )
    assert collapse.rank_of_variances(torch.zeros(3)) == 0.0


def test_variances_are_eigenvalues_of_the_covariance() -> None:
    x = latents(50, 6).double() @ latents(6, 6, seed=1).double()
    expected = torch.linalg.eigvalsh(torch.cov(x.T)).flip(0)
    assert torch.allclose(principal_variances(x), expected)


def test_spread_and_rank_are_those_that_training_logs() -> None:
    z = latents(30, 4, 5)
    found, valid = latent_statistics(z), torch.ones(30, 4, 1)
    assert found.spread == pytest.approx(float(collapse.spread_of(collapse.moments(z, valid))))
    assert found.effective_rank == pytest.approx(collapse.effective_rank(z, valid), rel=1e-4)


def test_histograms_are_densities() -> None:
    found = latent_statistics(latents(500, 4, 3))
    assert torch.allclose(found.histograms.sum(1).float() * 8 / 80, torch.ones(3), atol=1e-2)
    assert found.histograms.argmax(1).sub(40).abs().max() < 12  # near 0
    assert len(found.figure().axes) == 2
    assert found.numbers()["available directions"] == 12


def test_collapsed_latents_have_no_spread() -> None:
    found = latent_statistics(latents(1, 4, 3).expand(20, -1, -1))
    assert found.spread == 0.0
    assert found.effective_rank == 0.0


def test_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        latent_statistics(latents(1, 2, 2))

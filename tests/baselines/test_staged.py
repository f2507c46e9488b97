"""What happens between the stages: standardized latents, the same reconstructions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.baselines.test_objectives import build
from tests.test_objective import slots

from openunite.baselines.encoders import PosteriorEncoder, SeparateEncoder
from openunite.baselines.objectives import DenoiserObjective, draw_latents
from openunite.baselines.staged import standardize
from openunite.batch import Evidence


@pytest.mark.parametrize("input_width", [None, 20])
@pytest.mark.parametrize("encoder_class", [SeparateEncoder, PosteriorEncoder])
def test_latents_get_mean_0_and_deviation_1_and_pixels_stay(
    tiny_models: Callable[..., Any], encoder_class: Any, input_width: int | None
) -> None:
    def models(**changes: Any) -> Any:
        return tiny_models(decoder_input_width=input_width, **changes)

    objective, batch = build(models, encoder_class, DenoiserObjective)
    data = objective.modality.prepare(batch, None)
    before = draw_latents(objective.unite, data, slots())
    pixels = objective.decoder(before)
    standardize(objective, batch, slots())
    after = draw_latents(objective.unite, data, slots())
    torch.testing.assert_close(after.mean((0, 1)), torch.zeros(6), rtol=0, atol=1e-4)
    torch.testing.assert_close(after.flatten(0, 1).std(0), torch.ones(6), rtol=1e-4, atol=0)
    assert not torch.allclose(before, after, atol=0.05)
    torch.testing.assert_close(objective.decoder(after), pixels, rtol=1e-4, atol=1e-4)


def test_the_log_variances_follow(tiny_models: Callable[..., Any]) -> None:
    """The posterior's deviation relative to the channel's stays what it was."""
    objective, batch = build(tiny_models, PosteriorEncoder, DenoiserObjective)
    prepared = objective.modality.prepare(batch, None)
    given = torch.zeros(6, 4, 6), torch.zeros(6), Evidence(observation=prepared.data)
    mean, log_variance = objective.encoder.posterior(*given)
    scale = draw_latents(objective.unite, prepared, slots()).flatten(0, 1).std(0)
    standardize(objective, batch, slots())
    mean_after, log_variance_after = objective.encoder.posterior(*given)
    torch.testing.assert_close(
        (0.5 * log_variance_after).exp(), (0.5 * log_variance).exp() / scale, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(mean_after.var(0), mean.var(0) / scale**2, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm_plain"])
def test_norms_without_a_bias_keep_pixels_too(tiny_models: Callable[..., Any], kind: str) -> None:
    objective, batch = build(
        lambda **_: tiny_models(latent_norm=kind), SeparateEncoder, DenoiserObjective
    )
    data = objective.modality.prepare(batch, None)
    pixels = objective.decoder(draw_latents(objective.unite, data, slots()))
    standardize(objective, batch, slots())
    after = draw_latents(objective.unite, data, slots())
    torch.testing.assert_close(objective.decoder(after), pixels, rtol=1e-4, atol=1e-4)
    if kind == "rmsnorm":
        torch.testing.assert_close(after.flatten(0, 1).std(0), torch.ones(6), rtol=1e-4, atol=0)

"""The baselines: which loss reaches which network, and where they coincide with UNITE."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.conftest import perturb
from tests.test_objective import STEP, objective_of, reached, slots, total
from torch import Tensor, nn

from openunite.baselines.encoders import PosteriorEncoder, SeparateEncoder
from openunite.baselines.objectives import (
    AutoencoderObjective,
    DenoiserObjective,
    PosteriorAutoencoderObjective,
    ThroughLatentsObjective,
)
from openunite.batch import Evidence
from openunite.flow.random import Stream
from openunite.objective import LossTerm, UniteObjective
from openunite.training.build import freeze

Build = Callable[..., Any]


def build(tiny_models: Build, encoder_class: Any, objective_class: Any, **settings: Any) -> Any:
    """An objective on perturbed tiny models, and a batch; settings of its own are `own__x`."""
    kind = "none" if encoder_class is PosteriorEncoder else "layernorm"
    models = tiny_models(latent_norm=kind)
    encoder = models.encoder
    if encoder_class is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = encoder_class.from_config(encoder.config)
        perturb(encoder)
    own = {n.removeprefix("own__"): v for n, v in settings.items() if n.startswith("own__")}
    settings = {n: v for n, v in settings.items() if not n.startswith("own__")}
    unite = UniteObjective(encoder, models.decoder, models.modality, **settings)
    return unite if objective_class is UniteObjective else objective_class(
        unite, **own
    ), models.batch


def terms_of(objective: Any, batch: Any) -> list[LossTerm]:
    return list(objective.terms(batch, STEP, slots()))


def gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor | None]:
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    names, parameters = zip(*trainable, strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return dict(zip(names, found, strict=True))


def parts_reached(objective: Any, loss: Tensor) -> set[str]:
    """Which of tokenizer, denoiser and decoder a loss has gradients in."""
    names = reached(gradients(loss, objective.encoder))
    found = {"tokenizer" if n.startswith("tokenizer.") else "denoiser" for n in names}
    return found | ({"decoder"} if reached(gradients(loss, objective.decoder)) else set())


def flow_of(objective: Any, batch: Any) -> Tensor:
    """The flow loss alone, whatever term it is in."""
    return next(t.parts.get("flow", t.value) for t in terms_of(objective, batch)[-1:])


# ---- one test per arrow ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective_class", "flow_reaches"),
    [
        (UniteObjective, {"denoiser"}),
        (ThroughLatentsObjective, {"denoiser", "tokenizer"}),
        (DenoiserObjective, {"denoiser"}),
    ],
)
def test_with_separate_weights_the_flow_loss_reaches(
    tiny_models: Build, objective_class: Any, flow_reaches: set[str]
) -> None:
    objective, batch = build(tiny_models, SeparateEncoder, objective_class)
    assert parts_reached(objective, flow_of(objective, batch)) == flow_reaches


@pytest.mark.parametrize(
    "objective_class", [UniteObjective, ThroughLatentsObjective, AutoencoderObjective]
)
def test_with_separate_weights_the_reconstruction_reaches_tokenizer_and_decoder(
    tiny_models: Build, objective_class: Any
) -> None:
    objective, batch = build(tiny_models, SeparateEncoder, objective_class)
    first = terms_of(objective, batch)[0]
    loss = first.parts.get("reconstruction", first.value)
    assert parts_reached(objective, loss) == {"tokenizer", "decoder"}


def test_without_stop_gradient_the_flow_loss_reaches_the_patches(tiny_models: Build) -> None:
    """Only the tokenizing pass sees patches; with the stop-gradient it gets nothing."""
    for objective_class, expected in ((ThroughLatentsObjective, True), (UniteObjective, False)):
        objective, batch = build(tiny_models, None, objective_class)
        names = reached(gradients(flow_of(objective, batch), objective.encoder))
        assert any(name.startswith("embedder.") for name in names) == expected


@pytest.mark.parametrize("objective_class", [UniteObjective, ThroughLatentsObjective])
def test_the_flow_loss_never_reaches_the_decoder(tiny_models: Build, objective_class: Any) -> None:
    objective, batch = build(tiny_models, None, objective_class)
    assert "decoder" not in parts_reached(objective, flow_of(objective, batch))


def test_the_posterior_autoencoder_trains_tokenizer_and_decoder_and_kl_the_tokenizer(
    tiny_models: Build,
) -> None:
    objective, batch = build(tiny_models, PosteriorEncoder, PosteriorAutoencoderObjective)
    (term,) = terms_of(objective, batch)
    assert parts_reached(objective, term.parts["reconstruction"]) == {"tokenizer", "decoder"}
    assert parts_reached(objective, term.parts["kl"]) == {"tokenizer"}


@pytest.mark.parametrize(
    ("encoder_class", "objective_class"),
    [
        (SeparateEncoder, DenoiserObjective),
        (PosteriorEncoder, DenoiserObjective),
    ],
)
def test_the_second_stage_trains_the_denoiser_and_nothing_frozen(
    tiny_models: Build, encoder_class: Any, objective_class: Any
) -> None:
    objective, batch = build(tiny_models, encoder_class, objective_class)
    freeze(("denoiser",), objective.encoder, objective.decoder)
    total(terms_of(objective, batch)).backward()
    for name, parameter in objective.encoder.named_parameters():
        assert (parameter.grad is None) == name.startswith("tokenizer."), name
    assert all(p.grad is None for p in objective.decoder.parameters())


# ---- where they are UNITE -------------------------------------------------------------------


def test_without_stop_gradient_the_value_is_that_of_unite(tiny_models: Build) -> None:
    through, batch = build(tiny_models, None, ThroughLatentsObjective, flow_weight=0.7)
    unite = objective_of(tiny_models(), flow_weight=0.7)
    (term,) = terms_of(through, batch)
    torch.testing.assert_close(term.value, total(terms_of(unite, batch)))
    assert not term.latents.requires_grad


def test_without_flow_weight_the_gradients_are_those_of_the_reconstruction(
    tiny_models: Build,
) -> None:
    through, batch = build(tiny_models, None, ThroughLatentsObjective, flow_weight=0.0)
    unite = objective_of(tiny_models())
    expected = gradients(terms_of(unite, batch)[0].value, unite.encoder)
    found = gradients(terms_of(through, batch)[0].value, through.encoder)
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], torch.zeros(()) if grad is None else grad)


def test_two_networks_with_the_same_weights_are_the_shared_one(tiny_models: Build) -> None:
    """Value for value, and the shared gradient is the sum of the two."""
    models = tiny_models()
    encoder = SeparateEncoder.from_config(models.encoder.config)
    encoder.denoiser.load_state_dict(models.encoder.state_dict(), strict=False)
    encoder.tokenizer.load_state_dict(models.encoder.state_dict())
    separate = UniteObjective(encoder, models.decoder, models.modality)
    shared = objective_of(models)
    apart, together = (terms_of(o, models.batch) for o in (separate, shared))
    for one, other in zip(apart, together, strict=True):
        assert torch.equal(one.value, other.value)
    expected = gradients(total(together), models.encoder)
    found = gradients(total(apart), encoder)
    for name, grad in expected.items():
        both = (found.get(f"denoiser.{name}"), found[f"tokenizer.{name}"])
        summed = sum((g for g in both if g is not None), torch.zeros(()))
        torch.testing.assert_close(summed, grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_stages_are_the_terms_of_unite(tiny_models: Build) -> None:
    first, batch = build(tiny_models, SeparateEncoder, AutoencoderObjective)
    second, _ = build(tiny_models, SeparateEncoder, DenoiserObjective)
    unite, _ = build(tiny_models, SeparateEncoder, UniteObjective)
    reconstruction, *flow = terms_of(unite, batch)
    (only,) = terms_of(first, batch)
    assert torch.equal(only.value, reconstruction.value)
    found = terms_of(second, batch)
    assert [torch.equal(a.value, b.value) for a, b in zip(found, flow, strict=True)] == [True] * 3
    assert sum(term.weight for term in found) == pytest.approx(1.0)
    assert torch.equal(found[0].latents, reconstruction.latents)


def test_the_kl_term_is_that_of_gaussians(tiny_models: Build) -> None:
    objective, batch = build(
        tiny_models, PosteriorEncoder, PosteriorAutoencoderObjective, own__kl_weight=0.25
    )
    (term,) = terms_of(objective, batch)
    stored = objective.modality.prepare(batch, slots())
    noise = slots().normal(Stream.REGISTERS, 4, 6)
    t = 0.01 * slots().uniform(Stream.TOKENIZE_TIME)
    seen = Evidence(observation=stored.data)
    mean, log_variance = objective.encoder.posterior(noise, t, seen)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(posterior, prior).mean()
    torch.testing.assert_close(term.parts["kl"], expected)
    torch.testing.assert_close(term.value, term.parts["reconstruction"] + 0.25 * expected)
    assert torch.equal(objective.encoder(noise, t, seen), mean)

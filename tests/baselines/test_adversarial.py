"""The decoder against a discriminator: who is trained by what, and that latents stay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import perturb, rows_of
from tests.test_objective import STEP, slots
from tests.training.tiny import TinyImages, tiny_config
from torch import nn

from openunite import ImagePipeline
from openunite.baselines.adversarial import (
    AdversarialDecoderObjective,
    Discriminator,
    adversarial_decoder,
)
from openunite.batch import Evidence
from openunite.flow.random import SlotRandom
from openunite.objective import LossTerm, UniteObjective
from openunite.pipelines.base import PLAIN
from openunite.training.build import build_models, build_objective
from openunite.training.trainer import Trainer

Build = Callable[..., Any]
DECODER: dict[str, Any] = {"init_from": "elsewhere", "objective__stage": "decoder"}


def objective_of(tiny_models: Build, **settings: Any) -> tuple[AdversarialDecoderObjective, Any]:
    models = tiny_models()
    weight = settings.pop("adversarial_weight", 0.1)
    unite = UniteObjective(models.encoder, models.decoder, models.modality, **settings)
    objective = adversarial_decoder(unite, weight)
    perturb(objective.discriminator.head)
    models.encoder.requires_grad_(False)
    return objective, models.batch


def touched(term: LossTerm, module: nn.Module) -> bool:
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters or not term.value.requires_grad:
        return False
    grads = torch.autograd.grad(term.value, parameters, allow_unused=True, retain_graph=True)
    return any(grad is not None and bool(grad.any()) for grad in grads)


def test_each_term_trains_its_own_network(tiny_models: Build) -> None:
    objective, batch = objective_of(tiny_models)
    decoder, discriminator = objective.terms(batch, STEP, slots())
    modules = (objective.decoder, objective.discriminator, objective.encoder)
    assert [touched(decoder, m) for m in modules] == [True, False, False]
    assert [touched(discriminator, m) for m in modules] == [False, True, False]


def test_the_decoder_follows_both_gradients_in_the_given_proportion(tiny_models: Build) -> None:
    """By hand, image by image: reconstruction, minus the score's at the same norm times w."""
    objective, batch = objective_of(tiny_models, adversarial_weight=0.3, recon_noise_share=0.0)
    term, other = objective.terms(batch, STEP, slots())
    data = objective.modality.prepare(batch, slots())
    output = objective.decoder(objective.unite.tokenize(data, slots()))
    real, fake = (objective.discriminator(x) for x in (data.data, output))
    l1 = (output - data.data).abs().mean()
    torch.testing.assert_close(term.value, l1)
    torch.testing.assert_close(term.parts["score"], fake.mean())
    down, up = (torch.autograd.grad(x, output, retain_graph=True)[0] for x in (l1, fake.mean()))
    direction = torch.stack(
        [d - 0.3 * u * d.norm() / u.norm() for d, u in zip(down, up, strict=True)]
    )
    weight = objective.decoder.latent_input.weight
    expected = torch.autograd.grad(output, weight, direction, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(term.value, weight)[0], expected)
    hinge = nn.functional.relu(1 - real).mean() + nn.functional.relu(1 + fake).mean()
    torch.testing.assert_close(other.value, hinge)


def test_a_part_of_the_batch_gets_its_part_of_the_gradient(tiny_models: Build) -> None:
    """Accumulation: the halves' gradients average to the whole's."""
    objective, batch = objective_of(tiny_models, adversarial_weight=0.7)
    weight = objective.decoder.latent_input.weight

    def gradient(first: int, last: int) -> torch.Tensor:
        part = rows_of(batch, slice(first, last))
        random = SlotRandom(seed=1, step=STEP, slots=torch.arange(first, last))
        return torch.autograd.grad(next(objective.terms(part, STEP, random)).value, weight)[0]

    halves = (gradient(0, 3) + gradient(3, 6)) / 2
    torch.testing.assert_close(halves, gradient(0, 6), rtol=1e-4, atol=1e-7)


def test_the_discriminator_learns_first(tiny_models: Build) -> None:
    objective, _ = objective_of(tiny_models, adversarial_weight=0.2, flow_ramp_steps=10)
    weights = [objective.weights(step) for step in (0, 9, 10, 99)]
    assert weights == [{"adversarial_weight": w} for w in (0.0, 0.0, 0.2, 0.2)]


def test_the_discriminator_starts_from_the_encoder_and_is_its_own(tiny_models: Build) -> None:
    models = tiny_models()
    discriminator = Discriminator(models.encoder)
    own = discriminator.backbone.state_dict()
    assert all(torch.equal(own[n], t) for n, t in models.encoder.state_dict().items())
    perturb(discriminator)
    assert not torch.equal(own["latent_output.weight"], models.encoder.latent_output.weight)
    again = Discriminator(models.encoder)
    assert torch.equal(again.head.weight, Discriminator(models.encoder).head.weight)
    assert again(torch.rand(2, 1, 8, 8)).shape == (2, 4)


def trainer_of(folder: Path, **changes: Any) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(**DECODER, **changes)
    encoder, decoder = build_models(config)
    perturb(encoder)
    return Trainer(build_objective(config, encoder, decoder), TinyImages(), config, folder, None)


def pipeline_of(model: Any) -> ImagePipeline:
    return ImagePipeline(
        model["encoder"].eval(), model["decoder"].eval(), PLAIN.change(num_inference_steps=2)
    )


def test_latents_and_what_is_generated_in_them_stay_bit_for_bit(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, steps=6)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    evidence, seeds = Evidence.of_classes(torch.tensor([1, 2])), torch.tensor([3, 4])

    def look() -> list[torch.Tensor]:
        pipeline = pipeline_of(trainer.ema.model)
        latents = pipeline.encode(images)
        samples = pipeline.sample_latents(evidence, seeds)
        return [latents, samples, pipeline.decode_tensor(latents)]

    before = look()
    trainer.fit()
    after = look()
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[2], after[2])


def test_it_resumes_with_its_discriminator(tmp_path: Path) -> None:
    whole, first = trainer_of(tmp_path / "whole", steps=8), trainer_of(tmp_path / "parts", steps=8)
    whole.fit()
    iterator = iter(first.batches())
    for _ in range(3):
        first.advance(iterator)
    first.save()
    second = trainer_of(tmp_path / "parts", steps=8)
    second.fit()
    pairs = zip(whole.model.named_parameters(), second.model.parameters(), strict=True)
    assert [name for (name, a), b in pairs if not torch.equal(a, b)] == []
    assert any(name.startswith("discriminator.") for name, _ in whole.model.named_parameters())


def test_it_is_for_images_and_needs_a_run() -> None:
    with pytest.raises(ValueError, match="stage decoder needs init_from, the run it starts from"):
        tiny_config(objective__stage="decoder")
    with pytest.raises(ValueError, match="stage decoder needs modality image, got 'molecule'"):
        tiny_config(modality="molecule", **DECODER)

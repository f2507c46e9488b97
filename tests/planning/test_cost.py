"""Operations in closed form, against the published figures and against a counter of real ones."""

from collections.abc import Callable

import pytest
import torch
from tests.training.tiny import tiny_config
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from openunite.batch import Evidence
from openunite.catalog import get_recipe
from openunite.planning.cost import flops, num_parameters, sampling_passes, vgg16_flops
from openunite.sampling import Sampling
from openunite.training.build import build_models
from openunite.training.config import ModelConfig, RunConfig


def test_the_figures_of_unite_b() -> None:
    """GFLOP per image, forward and backward, worked out by hand from the paper's sizes."""
    counted = flops(get_recipe("imagenet256_b")())
    parts = (counted.tokenize, counted.decode, counted.flow_draw, counted.perceptual)
    assert [round(part / 1e9, 1) for part in parts] == [304.5, 140.1, 150.2, 120.3]
    assert counted.step(3) / 1e9 == pytest.approx(1015.5, abs=0.1)
    assert counted.step(14) / 1e9 == pytest.approx(2667.8, abs=0.1)
    assert counted.sample(108) / 1e9 == pytest.approx(108 * 50.07 + 46.7, rel=1e-3)
    assert num_parameters(get_recipe("imagenet256_b")()) == pytest.approx(217.64e6, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "classes", "passes"),
    [
        (Sampling("heun", 3, 1.0, guidance_scale=2.0), 10, 1 + 4 * 2),
        (Sampling("heun", 3, 1.0, guidance_scale=1.0), 10, 5),
        (Sampling("heun", 3, 1.0, guidance_scale=2.0), 0, 5),  # without classes, no guidance
        (Sampling("multistep", 8, 0.5, guidance_interval=(0.1, 1.0)), 10, 8 + 6),
        (Sampling("sde", 4, 1.0, guidance_interval=(0.3, 0.6), options={"eta": 1.0}), 10, 4 + 1),
        (Sampling("dopri5"), 10, None),
    ],
)
def test_passes_of_a_sample_by_hand(settings: Sampling, classes: int, passes: int | None) -> None:
    assert sampling_passes(tiny_config(sampling=settings, num_classes=classes)) == passes


def count(run: Callable[[], object]) -> float:
    """Operations of a forward pass, as torch counts them; of fused attention it does not, here."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        run()
    return float(counter.get_total_flops())


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(model=ModelConfig(6, 8, 32, 3, 2, 48, 2, 2, 64, 3, 1, 40)),
        tiny_config(model=ModelConfig(4, 8, 32, 2, 2, 32, 1, 2, 64, 0, 0)),
        tiny_config(
            modality_config={
                "height": 24,
                "width": 20,
                "channels": 3,
                "patch_size": 12,
                "head": "convolutional",
            }
        ),
    ],
    ids=["queries", "no context", "convolutions"],
)
def test_closed_form_equals_the_count_of_a_forward_pass(config: RunConfig) -> None:
    """On fake tensors: nothing is computed."""
    size, image = config.model, config.modality_config
    with FakeTensorMode():
        encoder, decoder = build_models(config)
        z, t = torch.empty(1, size.num_registers, size.latent_channels), torch.empty(1)
        data = torch.empty(1, image["channels"], image["height"], image["width"])
        tokenize = count(lambda: encoder(z, t, Evidence(observation=data)))
        denoise, decode = count(lambda: encoder(z, t)), count(lambda: decoder(z))
    ours = flops(config, as_released=False)
    # Queries of the last block may be projected for all tokens where only the registers' are used.
    spared = 2 * size.width**2 * (4 + size.num_context_tokens)
    assert ours.tokenize / 3 <= tokenize <= ours.tokenize / 3 + spared
    assert ours.flow_draw / 3 <= denoise <= ours.flow_draw / 3 + spared
    assert decode == pytest.approx(ours.decode / 3, rel=1e-9)
    assert flops(config).flow_draw >= ours.flow_draw


def test_vgg16_by_torch() -> None:
    layers, channels = [], 3
    for width, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            layers.append(torch.nn.Conv2d(channels, width, 3, padding=1, device="meta"))
            channels = width
        layers.append(torch.nn.MaxPool2d(2))
    image = torch.empty(1, 3, 64, 96, device="meta")
    network = torch.nn.Sequential(*layers)
    assert count(lambda: network(image)) == vgg16_flops(64, 96)

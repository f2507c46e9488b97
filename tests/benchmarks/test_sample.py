"""Speed of sampling: what is counted beside the clock."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarks.sample import config_of, passes, speed

from openunite.batch import Evidence
from openunite.modalities.image.pipeline import ImagePipeline
from openunite.pipelines.base import PLAIN
from openunite.planning.cost import flops, num_parameters

Build = Callable[..., Any]


@pytest.fixture
def pipeline(tiny_models: Build) -> ImagePipeline:
    made = tiny_models(decoder_input_width=20)
    sampling = PLAIN.change(num_inference_steps=3, guidance_scale=2.0)
    return ImagePipeline(made.encoder.eval(), made.decoder.eval(), sampling)


def test_settings_are_those_of_the_networks(pipeline: ImagePipeline) -> None:
    own = [p for part in (pipeline.encoder, pipeline.decoder) for p in part.parameters()]
    assert num_parameters(config_of(pipeline)) == sum(p.numel() for p in own)


def test_passes_are_counted_by_image(pipeline: ImagePipeline) -> None:
    """Heun looks at 0, 1/3, 1/3, 2/3, 2/3, guided but at 0; its last step is Euler's."""
    seeds = torch.arange(4)
    evidence = Evidence.of_classes(seeds)
    assert passes(lambda: pipeline.sample_latents(evidence, seeds)) == 4 * (1 + 4 * 2)


def test_speed_has_memory_and_flops(pipeline: ImagePipeline) -> None:
    pytest.importorskip("torchdiffeq")
    found, lines = speed(pipeline, Namespace(batch_size=2, runs=2, compile=False))
    counted = flops(config_of(pipeline))
    assert found["generate, default"]["flop_per_image"] == counted.sample(9)
    assert found["generate, as released"]["flop_per_image"] > counted.sample(9)
    assert found["decode"]["flop_per_image"] == counted.sample(0)
    assert all(found[name]["peak_bytes"] > 0 for name in found if name != "memory_by")
    assert {line.count("|") for line in lines[2:]} == {8}

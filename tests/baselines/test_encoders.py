"""Encoders with two networks: which one answers, and in a pipeline, saved and loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import perturb
from tests.training.tiny import tiny_config

from openunite import ImagePipeline
from openunite.baselines.encoders import PosteriorEncoder, SeparateEncoder
from openunite.pipelines.base import PLAIN
from openunite.training.build import build_models

POSTERIOR: dict[str, Any] = {
    "model__latent_norm": "none",
    "objective__stage": "autoencoder",
    "model__tokenizer": "posterior",
}
CASES = [({"model__tokenizer": "separate"}, SeparateEncoder), (POSTERIOR, PosteriorEncoder)]


@pytest.mark.parametrize(("changes", "kind"), CASES)
def test_a_pipeline_samples_with_the_denoiser_and_encodes_with_the_tokenizer(
    changes: dict[str, Any], kind: type, tmp_path: Path
) -> None:
    """Also after saving and loading: an image changes with the network that made it alone."""
    encoder, decoder = build_models(tiny_config(**changes))
    assert type(encoder) is kind
    perturb(encoder)
    perturb(decoder)
    pipeline = ImagePipeline(encoder.eval(), decoder.eval(), PLAIN.change(num_inference_steps=2))
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    pipeline.save_pretrained(tmp_path)
    loaded = ImagePipeline.from_pretrained(tmp_path)
    assert type(loaded.encoder) is kind
    latents, samples = pipeline.encode(images), pipeline.generate([1, 2], seeds=[3, 4])
    assert torch.equal(loaded.encode(images), latents)
    assert torch.equal(loaded.generate([1, 2], seeds=[3, 4]), samples)
    perturb(loaded.encoder.tokenizer, seed=5)
    assert not torch.allclose(loaded.encode(images), latents, atol=1e-2)
    assert torch.equal(loaded.generate([1, 2], seeds=[3, 4]), samples)
    with torch.no_grad():
        for parameter in loaded.encoder.denoiser.parameters():
            parameter.add_(0.1)
    changed = loaded.encode(images)
    loaded.encoder.tokenizer.load_state_dict(encoder.tokenizer.state_dict())
    assert not torch.equal(changed, latents)
    assert torch.equal(loaded.encode(images), latents)
    assert not torch.allclose(loaded.generate([1, 2], seeds=[3, 4]), samples, atol=1e-3)


def test_both_networks_are_drawn_from_the_seed() -> None:
    first, second = (build_models(tiny_config(model__tokenizer="separate"))[0] for _ in range(2))
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    own, other = first.denoiser.blocks[0].mlp.up.weight, first.tokenizer.blocks[0].mlp.up.weight
    assert not torch.equal(own, other)


@pytest.mark.parametrize(("changes", "kind"), CASES)
def test_nothing_is_saved_that_is_never_used(
    changes: dict[str, Any], kind: type, tmp_path: Path
) -> None:
    """Only the network that sees observations embeds them; both count as parameters once."""
    encoder, _ = build_models(tiny_config(**changes))
    names = [name for name, _ in encoder.named_parameters()]
    assert {name.split(".")[0] for name in names} == {"tokenizer", "denoiser"}
    assert [n for n in names if ".embedder." in n and not n.startswith("tokenizer.")] == []
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    shared, _ = build_models(tiny_config())
    if kind is SeparateEncoder:
        embedder = sum(p.numel() for p in shared.embedder.parameters())
        count = sum(p.numel() for p in shared.parameters())
        assert sum(p.numel() for p in encoder.parameters()) == 2 * count - embedder

"""Comparing two passes: identical ones, rotated ones, unrelated ones, and a real encoder."""

import math

import pytest
import torch
from tests.conftest import make_models
from torch import Tensor

from openunite.analysis.passes import LATENTS, Activations, compare_passes
from openunite.analysis.similarity import cknna, hsic_terms, ratio
from openunite.batch import Evidence
from openunite.flow.random import seeded_normal

TIMES = (0.0, 0.5, 1.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batches(count: int = 3, size: int = 40) -> list[tuple[Tensor, Tensor]]:
    return [(normal(size, 2, 3, seed=i), normal(size, 2, 3, seed=100 + i)) for i in range(count)]


def tokenize(data: Tensor) -> Activations:
    return {"block.0": data, LATENTS: data}


def test_a_pass_that_sees_z_t_alone_gets_from_chance_to_equality() -> None:
    """Both passes are the identity, so denoising returns z_t."""
    found = compare_passes(batches(), tokenize, lambda z, t: tokenize(z), TIMES)
    cka, cosine = found.similarity.cka, found.agreement.cosine
    assert cka.shape == (3, 2)
    assert cka[2].tolist() == pytest.approx([1.0, 1.0])
    assert found.similarity.cknna[2].tolist() == pytest.approx([1.0, 1.0])
    assert cka[0].abs().max() < 0.1 < 0.3 < float(cka[1].min()) < 0.9
    assert float(cosine[2]) == pytest.approx(1.0)
    assert abs(float(cosine[0])) < 0.15
    assert found.agreement.chance.abs().max() < 0.15
    # z_0.5 of independent unit normals has the size sqrt(1/2)
    ratio = found.norms.norm_ratio
    assert ratio[:, 0].tolist() == pytest.approx([1.0, math.sqrt(0.5), 1.0], abs=0.05)


def test_rotated_and_enlarged_activations_differ_in_norm_only() -> None:
    turn = torch.linalg.qr(normal(3, 3, seed=7)).Q

    def denoise(z: Tensor, t: Tensor) -> Activations:
        return {"block.0": 2.0 * z @ turn, LATENTS: z}

    found = compare_passes(batches(), tokenize, denoise, (1.0,))
    assert found.similarity.cka[0].tolist() == pytest.approx([1.0, 1.0])
    assert found.norms.norm_ratio.tolist() == [pytest.approx([2.0])]
    assert found.norms.numbers()["largest ratio of norms"] == pytest.approx(2.0)
    assert found.norms.layers == ("block 0",)


def test_one_batch_is_the_plain_score_and_small_batches_are_left_out() -> None:
    (data, noise), few = batches(1)[0], (normal(5, 2, 3), normal(5, 2, 3))
    found = compare_passes([(data, noise), few], tokenize, lambda z, t: tokenize(z.tanh()), (0.5,))
    z_t = (0.5 * data + 0.5 * noise).tanh()
    assert float(found.similarity.cka[0, 0]) == pytest.approx(
        float(ratio(hsic_terms(data.flatten(1), z_t.flatten(1))))
    )
    assert float(found.similarity.cknna[0, 0]) == pytest.approx(
        cknna(data.flatten(1), z_t.flatten(1)), abs=1e-6
    )


def test_no_batch_that_is_large_enough_is_refused() -> None:
    with pytest.raises(ValueError, match="use more images"):
        compare_passes(batches(1, 8), tokenize, lambda z, t: tokenize(z))


def test_an_encoder_gives_every_block_and_figures() -> None:
    models = make_models()
    encoder = models.encoder.eval()

    def activations(z: Tensor, t: Tensor, data: Tensor | None) -> Activations:
        kept: dict[str, Tensor] = {}
        latents = encoder(z, t, Evidence(observation=data), intermediates=kept)
        return kept | {LATENTS: latents}

    images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    start = seeded_normal(torch.tensor([0]), 4, 6).expand(24, -1, -1)
    with torch.no_grad():
        found = compare_passes(
            [(images, seeded_normal(torch.arange(24), 4, 6))],
            lambda data: activations(start, torch.zeros(24), data),
            lambda z, t: activations(z, t, None),
            TIMES,
        )
    assert found.similarity.layers == ("block 0", "block 1", "block 2", "before norm", "latents")
    assert found.norms.layers == ("block 0", "block 1", "block 2")
    for analysis in (found.similarity, found.agreement, found.norms):
        assert analysis.figure().axes
        assert analysis.reading.endswith(".")


def test_layers_without_variation_are_undefined() -> None:
    def constant(z: Tensor, t: Tensor) -> Activations:
        return {"block.0": torch.ones_like(z), LATENTS: z}

    found = compare_passes(batches(1), tokenize, constant, (0.5,))
    assert math.isnan(float(found.similarity.cka[0, 0]))
    assert found.similarity.figure().axes

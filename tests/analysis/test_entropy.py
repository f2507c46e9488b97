"""Entropy of weights: known distributions, numpy with scipy, and the groups of a real encoder."""

import math

import numpy as np
import pytest
import torch
from tests.conftest import make_models

from openunite.analysis.entropy import BINS, GROUPS, entropy_bits, group_of, weight_entropy


def test_known_distributions() -> None:
    assert entropy_bits(torch.ones(10)) == 0.0
    assert entropy_bits(torch.zeros(0)) == 0.0
    assert entropy_bits(torch.tensor([0.0, 1.0]).repeat(50)) == pytest.approx(1.0)
    assert entropy_bits(torch.arange(4.0).repeat(9)) == pytest.approx(2.0)
    uniform = torch.rand(200_000, generator=torch.Generator().manual_seed(0))
    assert entropy_bits(uniform) == pytest.approx(math.log2(BINS), abs=2e-3)


def test_a_normal_tensor_by_numpy_and_by_theory() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts, _ = np.histogram(values.numpy(), BINS)
    found = entropy_bits(values)
    assert found == pytest.approx(stats.entropy(counts, base=2), abs=1e-3)
    width = float(values.max() - values.min()) / BINS
    theory = 0.5 * math.log2(2 * math.pi * math.e) - math.log2(width)
    assert found == pytest.approx(theory, abs=0.01)


def test_scale_shift_and_order_do_not_count() -> None:
    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert entropy_bits(-1.0 + 4.0 * values.flip(0)) == pytest.approx(
        entropy_bits(values), abs=0.01
    )


def test_outliers_lower_it() -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert entropy_bits(torch.cat([values, torch.tensor([50.0])])) < entropy_bits(values) - 2.0


def test_groups_of_an_encoder() -> None:
    encoder = make_models().encoder
    groups = {name: group_of(name) for name, _ in encoder.named_parameters()}
    expected = {
        "blocks.0.attention.qkv.weight": "functions",
        "blocks.1.mlp.down.bias": "functions",
        "blocks.0.modulation.weight": "norms",
        "blocks.0.norm_attention.weight": "norms",
        "blocks.2.attention.q_norm": "norms",
        "modulation_out.bias": "norms",
        "latent_norm.weight": "norms",
        "register_input.weight": "rest",
        "time_embedding.mlp_in.weight": "rest",
    }
    assert {name: groups[name] for name in expected} == expected


def test_sums_over_models_and_groups() -> None:
    encoder = make_models(perturbed=False).encoder
    weights = dict(encoder.named_parameters())
    result = weight_entropy({"fresh": weights, "half": {"mlp.a": torch.tensor([0.0, 1.0])}})
    assert sum(result.counts["fresh"].values()) == sum(w.numel() for w in weights.values())
    total = sum(entropy_bits(w) * w.numel() for w in weights.values())
    assert sum(result.bits["fresh"].values()) == pytest.approx(total)
    assert result.bits["fresh"]["norms"] == 0.0  # constant at initialization
    assert result.bits["half"] == {"norms": 0.0, "functions": 2.0, "rest": 0.0}
    assert result.megabytes("half", "functions") == 0.25e-6
    assert set(result.numbers()["models"]["fresh"]) == set(GROUPS)
    assert len(result.figure().axes) == 2

"""Pipelines of molecules and crystals: seeds, sizes, round trips, mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import perturb

from openunite.batch import NOTHING, Evidence
from openunite.data.atoms.structure import Structure
from openunite.flow.random import seeded_normal
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.crystal.pipeline import CrystalPipeline
from openunite.modalities.molecule.pipeline import MoleculePipeline
from openunite.models.decoder import Decoder
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.pipelines import base
from openunite.sampling import Sampling

KINDS = {"molecule": MoleculePipeline, "crystal": CrystalPipeline}
HISTOGRAM = [0, 0, 0, 3, 0, 1, 0, 0]
FAST = {"num_inference_steps": 4}


def build(modality: str) -> AtomPipeline:
    shared: dict[str, Any] = {
        "modality": modality,
        "modality_config": {"elements": [1, 6, 8], "max_atoms": 7},
        "num_registers": 7,
        "latent_channels": 6,
        "width": 32,
        "depth": 2,
        "num_heads": 2,
    }
    torch.manual_seed(0)
    encoder = GenerativeEncoder(**shared, num_context_tokens=0, context_start=0)
    decoder = Decoder(**shared, mlp_width=48)
    for model in (encoder, decoder):
        perturb(model)
    pipeline = KINDS[modality](
        encoder.eval(),
        decoder.eval(),
        Sampling("sde", 50, 1.0, 1.0, options={"eta": 1.0}),
        size_histogram=HISTOGRAM,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=list(KINDS))
def pipeline(request: pytest.FixtureRequest) -> AtomPipeline:
    return build(request.param)


def structures(pipeline: AtomPipeline) -> list[Structure]:
    generator = np.random.default_rng(0)
    cell = None if isinstance(pipeline, MoleculePipeline) else np.diag([4.0, 5.0, 6.0])
    return [
        Structure(generator.choice([1, 6, 8], n), generator.uniform(0, 4, (n, 3)), cell)
        for n in (7, 3, 4)
    ]


def test_one_pass_for_both_branches_keeps_the_padding_out(
    pipeline: AtomPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guided by a class that is not known, which changes nothing but the way."""
    mask, seeds = torch.arange(7) < torch.tensor([[7], [3]]), torch.tensor([1, 2])
    evidence = Evidence.of_classes(torch.zeros(2, dtype=torch.int64)).drop(torch.tensor([True] * 2))
    found = []
    for most in (0, 10**9):
        monkeypatch.setitem(base.ONE_PASS, "cpu", most)
        options: Any = {"guidance_scale": 2.0, **FAST}
        latents = pipeline.sample_latents(evidence, seeds, mask, **options)
        found.append(latents[mask])
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0.0)


def assert_same(found: Structure, expected: Structure, tolerance: float = 1e-4) -> None:
    assert np.array_equal(found.numbers, expected.numbers)
    np.testing.assert_allclose(found.positions, expected.positions, atol=tolerance)


def test_a_structure_depends_on_its_seed_alone(pipeline: AtomPipeline) -> None:
    together = pipeline(5, seeds=range(5), **FAST)
    alone = [pipeline(1, seeds=[seed], **FAST)[0] for seed in range(5)]
    small = pipeline(5, seeds=range(5), batch_size=2, **FAST)
    for one, two, three in zip(together, alone, small, strict=True):
        assert_same(one, two)
        assert_same(one, three)
    assert not np.allclose(together[0].positions[:3], together[1].positions[:3])


def test_sizes_follow_the_training_data_or_the_caller(pipeline: AtomPipeline) -> None:
    sizes = [len(item) for item in pipeline(200, seeds=range(200), num_inference_steps=1)]
    assert set(sizes) == {3, 5}
    assert 0.65 < sizes.count(3) / 200 < 0.85
    assert [len(item) for item in pipeline(2, num_atoms=6, **FAST)] == [6, 6]
    assert [len(item) for item in pipeline(2, num_atoms=[2, 7], **FAST)] == [2, 7]


def test_latents_do_not_depend_on_batch_mates(pipeline: AtomPipeline) -> None:
    items = structures(pipeline)
    latents = pipeline.encode(items)
    assert latents.values.shape == (3, 7, 6)
    assert latents.mask.sum(dim=1).tolist() == [7, 3, 4]
    alone = pipeline.encode(items[1:2])
    torch.testing.assert_close(latents.values[1:2, :3], alone.values, atol=1e-5, rtol=0.0)
    for one, two in zip(pipeline.reconstruct(items), pipeline.decode(latents), strict=True):
        assert_same(one, two)


def test_saved_and_loaded_it_is_the_same(pipeline: AtomPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path)
    loaded = type(pipeline).from_pretrained(tmp_path)
    assert_same(loaded(1, seeds=[3], **FAST)[0], pipeline(1, seeds=[3], **FAST)[0], 1e-6)
    assert loaded.config.size_histogram == HISTOGRAM


def test_temperature_scales_the_renewed_noise(pipeline: AtomPipeline) -> None:
    seeds = torch.arange(4)
    mask = torch.ones(4, 5, dtype=torch.bool)

    def latents(**options: Any) -> torch.Tensor:
        return pipeline.sample_latents(NOTHING, seeds, mask, **FAST, **options)

    assert torch.equal(latents(), latents(temperature=1.0))
    assert not torch.allclose(latents(), latents(temperature=0.5), atol=1e-3)
    # Two steps, (8) at eta 1: with noise of temperature 0, z_s is s z0^ plus what is kept of eps^.
    seen: list[torch.Tensor] = []
    options: dict[str, Any] = {"callback": lambda _n, _t, z: seen.append(z), "temperature": 0.0}
    pipeline.sample_latents(NOTHING, seeds, mask, num_inference_steps=2, **options)
    first = pipeline.denoiser(NOTHING, 1.0, (0.1, 1.0), mask)
    noise = seeded_normal(seeds, 7, 6)[:, :5]
    assert torch.allclose(seen[0], 0.5 * first(noise, torch.zeros(4)), atol=1e-5)
    with pytest.raises(ValueError, match="unknown sampling setting 'temperature'"):
        latents(solver="heun", temperature=0.0)  # Heun renews no noise


def test_interpolation_has_the_ends(pipeline: AtomPipeline) -> None:
    first, _, third = structures(pipeline)
    between = pipeline.interpolate(first, first, 3)
    assert_same(between[1], pipeline.reconstruct([first])[0])
    with pytest.raises(ValueError, match="same number of atoms, got 7 and 4"):
        pipeline.interpolate(first, third, 3)


def test_mistakes_are_named(pipeline: AtomPipeline) -> None:
    cell = structures(pipeline)[0].cell
    with pytest.raises(ValueError, match="num_atoms must be a whole number from 1 to 7, got 8"):
        pipeline(1, num_atoms=8)
    with pytest.raises(ValueError, match="one number of atoms per sample, got 3 for 2"):
        pipeline(2, num_atoms=[3, 3, 3])
    with pytest.raises(ValueError, match=r"odd\.xyz contains Ne, this model knows H, C, O"):
        pipeline.encode([Structure(np.array([10, 1]), np.eye(3)[:2], cell, "odd.xyz")])
    with pytest.raises(ValueError, match="has 8 atoms, this model takes 1 to 7"):
        pipeline.encode([Structure(np.full(8, 6), np.zeros((8, 3)), cell)])


def test_a_shifted_molecule_is_reconstructed_alike() -> None:
    pipeline = build("molecule")
    item = structures(pipeline)[0]
    moved = Structure(item.numbers, item.positions + 5.0)
    assert_same(pipeline.reconstruct([moved])[0], pipeline.reconstruct([item])[0], 1e-5)


def test_crystals_keep_their_cells() -> None:
    found = build("crystal")(3, seeds=range(3), num_atoms=4, **FAST)
    assert all(item.cell is not None and item.cell.shape == (3, 3) for item in found)

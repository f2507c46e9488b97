"""The Generative Encoder: its data flow against a plain loop, shapes, masks, saving."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openunite.batch import CLASS, NOTHING, Batch, Evidence, Given
from openunite.models.generative_encoder import GenerativeEncoder
from openunite.nn.embeddings import rotary_angles
from openunite.nn.norm import Modulation

Build = Callable[..., Any]
IMAGES = {  # sizes that are square, not square, no multiple of the patch
    "square": {"height": 8, "width": 8, "channels": 1, "patch_size": 4},
    "wide": {"height": 8, "width": 12, "channels": 3, "patch_size": 4},
    "odd": {"height": 7, "width": 5, "channels": 2, "patch_size": 3},
    "four channels": {"height": 6, "width": 4, "channels": 4, "patch_size": 2},
}


def latents(batch: int = 3, registers: int = 4, channels: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, registers, channels, generator=generator)


def observation(models: Any, batch: int = 3) -> Tensor:
    stored = Batch(models.batch.data[:batch], torch.arange(batch))
    return models.modality.prepare(stored, None).data


def arguments(models: Any, observed: bool, batch: int = 3) -> dict[str, Any]:
    return {
        "z_t": latents(batch),
        "t": torch.linspace(0.1, 0.8, batch),
        "evidence": replace(
            Evidence.of_classes(torch.arange(batch)),
            observation=observation(models, batch) if observed else None,
        ),
    }


def by_hand(
    encoder: GenerativeEncoder, z_t: Tensor, t: Tensor, evidence: Evidence
) -> dict[str, Tensor]:
    """Every block on the whole sequence; registers have positions 0.., patches K.., tokens 0."""
    out: dict[str, Tensor] = {}
    registers, context = z_t.shape[1], encoder.config.num_context_tokens
    label = encoder.class_embedding.weight[evidence.conditions[CLASS].values]
    c = torch.nn.functional.silu(encoder.time_embedding(t) + label)
    x = encoder.register_input(z_t) + encoder.register_positions
    if evidence.observation is not None:
        x = torch.cat([x, encoder.embedder(evidence.observation)], dim=1)
    angles = rotary_angles(x.shape[1], 16).to(x.dtype)
    front = 0
    for i, block in enumerate(encoder.blocks):
        if i == encoder.config.context_start and context:
            tokens = label[:, None].expand(-1, context, -1) + encoder.context_positions
            x, front = torch.cat([tokens, x], dim=1), context
            angles = torch.cat([torch.zeros(context, 8, dtype=x.dtype), angles])
        x = block(x, c, angles)
        out[f"block.{i}"] = x[:, front : front + registers]
    x = x[:, front : front + registers]
    shift, scale = encoder.modulation_out(c)[:, None].chunk(2, dim=-1)
    out["prenorm"] = encoder.latent_output(encoder.norm_out(x, Modulation(shift, scale)))
    out["z0"] = encoder.latent_norm(out["prenorm"])
    return out


@pytest.mark.parametrize("kind", ["layernorm", "layernorm_plain", "rmsnorm", "none"])
@pytest.mark.parametrize("block_norm", [True, False])
def test_other_norms_are_a_plain_loop_too(tiny_models: Build, kind: str, block_norm: bool) -> None:
    models = tiny_models(latent_norm=kind, block_norm=block_norm)
    given, found = arguments(models, observed=True), {}
    z0 = models.encoder(**given, intermediates=found)
    torch.testing.assert_close(z0, by_hand(models.encoder, **given)["z0"], rtol=1e-4, atol=2e-5)
    assert torch.equal(z0, found["prenorm"]) == (kind == "none")
    assert any("norm_block" in n for n, _ in models.encoder.named_parameters()) == block_norm


def test_without_block_norm_the_residual_stream_is_handed_on(tiny_models: Build) -> None:
    """At initialization the gates are closed: what enters leaves, through all three blocks."""
    models, found = tiny_models(perturbed=False, block_norm=False), {}
    given = arguments(models, observed=True)
    models.encoder(**given, intermediates=found)
    entered = models.encoder.register_input(given["z_t"]) + models.encoder.register_positions
    torch.testing.assert_close(found["block.2"], entered)


@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("start", [0, 1, 2])
@pytest.mark.parametrize("context", [0, 3])
def test_it_is_a_plain_loop_over_blocks(
    tiny_models: Build, observed: bool, start: int, context: int
) -> None:
    """Also: pruning the last block and entering in-context tokens late change nothing else."""
    models = tiny_models(num_context_tokens=context, context_start=start)
    given, found = arguments(models, observed), {}
    z0 = models.encoder(**given, intermediates=found)
    expected = by_hand(models.encoder, **given)
    torch.testing.assert_close(z0, expected.pop("z0"), rtol=1e-4, atol=2e-5)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=2e-5)


def test_a_block_is_the_formula(tiny_models: Build) -> None:
    """METHOD.md section 2: adaLN order, gates, SwiGLU, and the norm on the residual stream."""
    block = tiny_models().encoder.blocks[0].double()
    x, c = latents(2, 7, 32).double(), latents(2, 1, 32, seed=1)[:, 0].double()
    angles = rotary_angles(7, 16)

    def rms(x: Tensor, weight: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight

    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (
        part[:, None]
        for part in (c @ block.modulation.weight.T + block.modulation.bias).split(32, 1)
    )
    h = rms(x, block.norm_attention.weight) * (1 + scale_a) + shift_a
    after = x + gate_a * block.attention(h, angles)
    h = rms(after, block.norm_mlp.weight) * (1 + scale_m) + shift_m
    first, second = block.mlp.up(h).chunk(2, dim=-1)
    assert first.shape[-1] == 85  # int(2/3 * 4 * 32)
    after = after + gate_m * block.mlp.down(first * torch.sigmoid(first) * second)
    expected = rms(after, block.norm_block.weight)
    torch.testing.assert_close(block(x, c, angles), expected)
    torch.testing.assert_close(block(x, c, angles, queries=slice(2, 5)), expected[:, 2:5])


def test_at_initialization_blocks_only_normalize_and_z0_is_the_bias(tiny_models: Build) -> None:
    models, found = tiny_models(perturbed=False), {}
    given = arguments(models, observed=True)
    z0 = models.encoder(**given, intermediates=found)
    assert torch.equal(z0, models.encoder.latent_norm.bias.expand_as(z0))
    assert torch.equal(found["prenorm"], torch.zeros_like(z0))
    entered = models.encoder.register_input(given["z_t"]) + models.encoder.register_positions
    unit = entered * (entered.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    torch.testing.assert_close(found["block.2"], unit, rtol=1e-4, atol=1e-5)


def test_the_output_is_normalized(tiny_models: Build) -> None:
    models = tiny_models()
    with torch.no_grad():
        models.encoder.latent_norm.weight.fill_(1.0)
        models.encoder.latent_norm.bias.fill_(0.0)
    z0 = models.encoder(**arguments(models, observed=True))
    torch.testing.assert_close(z0.mean(dim=2), torch.zeros(3, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(z0.var(dim=2, correction=0), torch.ones(3, 4), rtol=0, atol=1e-2)


@pytest.mark.parametrize("registers", [1, 4, 9])
@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_any_image_and_any_number_of_registers(
    tiny_models: Build, image: dict[str, int], registers: int
) -> None:
    models = tiny_models(image=image, num_registers=registers)
    z_t, t = latents(3, registers), torch.rand(3)
    assert models.encoder(z_t, t, Evidence(observation=observation(models))).shape == (
        3,
        registers,
        6,
    )
    assert models.encoder(z_t, t).shape == (3, registers, 6)


@pytest.mark.parametrize("num_classes", [0, 5])
@pytest.mark.parametrize("observed", [True, False])
def test_a_class_that_is_not_known_is_no_condition(
    tiny_models: Build, num_classes: int, observed: bool
) -> None:
    """Whatever its value is."""
    models = tiny_models(num_classes=num_classes)
    seen = observation(models) if observed else None
    given = {"z_t": latents(), "t": torch.linspace(0.1, 0.8, 3)}
    without = models.encoder(**given, evidence=Evidence(observation=seen))
    for values in ([0, 1, 2], [99, -1, num_classes]):
        masked = Given(torch.tensor(values), torch.zeros(3, dtype=torch.bool))
        evidence = Evidence({CLASS: masked}, seen)
        assert torch.equal(without, models.encoder(**given, evidence=evidence))
    if num_classes:
        known = Given.of_all(torch.zeros(3, dtype=torch.int64))
        other = models.encoder(**given, evidence=Evidence({CLASS: known}, seen))
        assert (without - other).abs().max() > 1e-3


def test_without_evidence_nothing_is_shown(tiny_models: Build) -> None:
    models, given = tiny_models(), (latents(), torch.linspace(0.1, 0.8, 3))
    assert torch.equal(models.encoder(*given), models.encoder(*given, NOTHING))


@pytest.mark.parametrize("part", ["z_t", "t", "class", "known", "observation"])
def test_every_input_matters_for_its_own_sample_only(tiny_models: Build, part: str) -> None:
    models = tiny_models()
    given = arguments(models, observed=True)
    before = models.encoder(**given)
    evidence, second = given["evidence"], torch.tensor([False, True, False])
    seen, labels = evidence.observation, evidence.conditions[CLASS].values
    if part == "class":
        change = {"evidence": replace(Evidence.of_classes(labels + second), observation=seen)}
    elif part == "known":
        change = {"evidence": evidence.drop(second)}
    elif part == "observation":
        flipped = torch.where(second[:, None, None, None], 1.0 - seen, seen)
        change = {"evidence": replace(evidence, observation=flipped)}
    else:
        changed = given[part].clone()
        changed[1] = 1.0 - given[part][1]
        change = {part: changed}
    after = models.encoder(**given | change)
    assert (after[1] - before[1]).abs().max() > 1e-3
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=0, atol=1e-6)


def test_in_context_tokens_enter_before_their_block(tiny_models: Build) -> None:
    models = tiny_models(context_start=1)
    given = arguments(models, observed=False)
    before, after = {}, {}
    models.encoder(**given, intermediates=before)
    with torch.no_grad():
        models.encoder.context_positions.add_(1.0)
    models.encoder(**given, intermediates=after)
    assert torch.equal(before["block.0"], after["block.0"])
    assert (before["block.1"] - after["block.1"]).abs().max() > 1e-4


@pytest.mark.parametrize("start", [3, -1])
def test_in_context_tokens_need_a_block_to_enter(tiny_models: Build, start: int) -> None:
    with pytest.raises(ValueError, match=f"context_start must be one of 3 blocks, got {start}"):
        tiny_models(context_start=start)


@pytest.mark.parametrize("context", [0, 2])
def test_padding_does_not_reach_the_valid_registers(tiny_models: Build, context: int) -> None:
    models = tiny_models(num_context_tokens=context)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True, True, False, False]])
    given = arguments(models, observed=False) | {"mask": mask}
    noisy = torch.where(mask[:, :, None], given["z_t"], 1e3 * latents(seed=5))
    first, second = models.encoder(**given), models.encoder(**given | {"z_t": noisy})
    torch.testing.assert_close(first[mask], second[mask], rtol=1e-5, atol=1e-5)
    for i, valid in enumerate(mask.sum(dim=1).tolist()):
        one = slice(i, i + 1)
        alone = models.encoder(
            given["z_t"][one, :valid],
            given["t"][one],
            given["evidence"].rows(one),
            mask[one, :valid],
        )
        torch.testing.assert_close(first[i : i + 1, :valid], alone, rtol=1e-5, atol=1e-5)


def test_padding_of_the_observation_does_not_reach_the_valid_registers(tiny_models: Build) -> None:
    """The mask covers observation tokens too, tied to registers by index (K = N)."""
    models = tiny_models()
    mask = torch.tensor([[True, True, True, False]] * 3)
    given = arguments(models, observed=True) | {"mask": mask}
    changed = given["evidence"].observation.clone()
    changed[:, :, 4:, 4:] = 0.5 - changed[:, :, 4:, 4:]  # the last patch
    other = {"evidence": replace(given["evidence"], observation=changed)}
    first, second = models.encoder(**given), models.encoder(**given | other)
    torch.testing.assert_close(first[mask], second[mask], rtol=1e-5, atol=1e-5)
    open_mask = given | {"mask": None}
    free = models.encoder(**open_mask | other)
    assert (models.encoder(**open_mask) - free)[mask].abs().max() > 1e-3


@pytest.mark.parametrize("train", [True, False])
def test_saving_and_loading_is_bit_for_bit(tiny_models: Build, tmp_path: Path, train: bool) -> None:
    models = tiny_models(num_registers=7)
    models.encoder.train(train).save_pretrained(tmp_path)
    loaded = GenerativeEncoder.from_pretrained(tmp_path)
    assert not loaded.training
    own, other = (dict(m.named_buffers()) | m.state_dict() for m in (models.encoder, loaded))
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
    given = arguments(models, observed=True) | {"z_t": latents(registers=7)}
    assert torch.equal(models.encoder(**given), loaded(**given))


def test_train_and_eval_compute_the_same(tiny_models: Build) -> None:
    models = tiny_models()
    given = arguments(models, observed=True)
    train, evaluated = (models.encoder.train(mode)(**given) for mode in (True, False))
    assert torch.equal(train, evaluated)


@pytest.mark.parametrize("observed", [True, False])
def test_double_precision_agrees_with_single(tiny_models: Build, observed: bool) -> None:
    models = tiny_models()
    given = arguments(models, observed)
    single = models.encoder(**given)
    evidence = given["evidence"]
    if observed:
        evidence = replace(evidence, observation=evidence.observation.double())
    result = models.encoder.double()(given["z_t"].double(), given["t"].double(), evidence)
    assert result.dtype == torch.float64
    torch.testing.assert_close(result.float(), single, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("observed", [True, False])
def test_bf16_autocast_is_close_and_the_latents_stay_float32(
    tiny_models: Build, observed: bool
) -> None:
    models = tiny_models()
    given = arguments(models, observed)
    full = models.encoder(**given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = models.encoder(**given)
    assert half.dtype == torch.float32
    assert (half - full).abs().mean() < 3e-2 * full.abs().mean()
    assert not torch.equal(half, full)


def test_initialization_does_not_depend_on_what_torch_drew_before(tiny_models: Build) -> None:
    torch.manual_seed(1)
    first = tiny_models(perturbed=False).encoder.state_dict()
    torch.randn(3)
    second = tiny_models(perturbed=False).encoder.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_no_parameter_is_frozen(tiny_models: Build) -> None:
    assert all(p.requires_grad for p in tiny_models().encoder.parameters())


def test_registers_start_at_the_scale_of_noise(tiny_models: Build) -> None:
    """With small register vectors even reconstruction does not start (docs/METHOD.md)."""
    positions = tiny_models(perturbed=False).encoder.register_positions
    assert 0.5 < float(positions.detach().square().mean().sqrt()) < 1.0

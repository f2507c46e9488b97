"""The decoder: data flow, K = N and K != N, masks, saving."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from openunite.models.decoder import Decoder
from openunite.nn.embeddings import sincos_grid, sincos_table

Build = Callable[..., Any]
ODD = {"height": 7, "width": 5, "channels": 3, "patch_size": 3}  # 3 x 2 patches


def latents(batch: int = 3, registers: int = 4) -> Tensor:
    return torch.randn(batch, registers, 6, generator=torch.Generator().manual_seed(0))


def by_hand(decoder: Decoder, z0: Tensor, input_width: int | None) -> Tensor:
    """Equation (2), with every position table written out."""
    x = z0
    if input_width is not None:
        x = x @ decoder.widen.weight.T + decoder.widen.bias
    x = decoder.latent_input(x)
    grid = sincos_grid(*decoder.head.shape.grid, 32)
    if decoder.query_tokens is None:
        x = x + grid
    else:
        x = x + sincos_table(torch.arange(z0.shape[1]), 32)
        x = torch.cat([x, (decoder.query_tokens + grid).expand(len(z0), -1, -1)], dim=1)
    x = torch.cat([decoder.cls_token.expand(len(z0), -1, -1), x], dim=1)
    for block in decoder.blocks:
        x = x + block.attention(block.norm_attention(x))
        x = x + block.mlp_down(torch.nn.functional.gelu(block.mlp_up(block.norm_mlp(x))))
    return decoder.head(decoder.norm_out(x)[:, -len(grid) :])


@pytest.mark.parametrize("input_width", [None, 20])
@pytest.mark.parametrize("registers", [1, 6, 11])
def test_it_is_equation_2(tiny_models: Build, registers: int, input_width: int | None) -> None:
    models = tiny_models(image=ODD, num_registers=registers, decoder_input_width=input_width)
    z0 = latents(registers=registers)
    image = models.decoder(z0)
    assert image.shape == (3, 3, 7, 5)
    torch.testing.assert_close(
        image, by_hand(models.decoder, z0, input_width), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("registers", [1, 4, 6, 11])
def test_queries_exist_where_registers_and_patches_differ(
    tiny_models: Build, registers: int
) -> None:
    queries = tiny_models(image=ODD, num_registers=registers).decoder.query_tokens
    assert (queries is None) == (registers == 6)
    assert queries is None or queries.shape == (1, 6, 32)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels(tiny_models: Build, channels: int) -> None:
    image = {"height": 8, "width": 12, "channels": channels, "patch_size": 4}
    models = tiny_models(image=image, num_registers=6)
    assert models.decoder(latents(registers=6)).shape == (3, channels, 8, 12)


def test_a_plain_start_says_little(tiny_models: Build) -> None:
    """Two independent latents give different images already before training."""
    decoder = tiny_models(perturbed=False).decoder
    a, b = decoder(latents())[:2]
    assert (a - b).abs().max() > 1e-2


def test_padding_does_not_reach_the_valid_tokens(tiny_models: Build) -> None:
    models = tiny_models()
    mask = torch.tensor([[True, True, True, False]] * 3)
    z0 = latents()
    changed = torch.where(mask[:, :, None], z0, 1e3 * z0)
    first, second = models.decoder(z0, mask), models.decoder(changed, mask)
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[4:, 4:] = False  # the last patch
    torch.testing.assert_close(first[:, :, valid], second[:, :, valid], rtol=1e-5, atol=1e-5)
    unmasked = (models.decoder(changed) - models.decoder(z0))[:, :, valid]
    assert unmasked.abs().max() > 1e-3


@pytest.mark.parametrize("registers", [4, 7])
@pytest.mark.parametrize("input_width", [None, 20])
def test_saving_and_loading_is_bit_for_bit(
    tiny_models: Build, tmp_path: Path, registers: int, input_width: int | None
) -> None:
    models = tiny_models(num_registers=registers, decoder_input_width=input_width)
    models.decoder.save_pretrained(tmp_path)
    loaded = Decoder.from_pretrained(tmp_path)
    own, other = (dict(m.named_buffers()) | m.state_dict() for m in (models.decoder, loaded))
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
    z0 = latents(registers=registers)
    assert torch.equal(models.decoder(z0), loaded(z0))


def test_double_precision_agrees_with_single(tiny_models: Build) -> None:
    decoder = tiny_models(num_registers=7).decoder
    z0 = latents(registers=7)
    single = decoder(z0)
    double = decoder.double()(z0.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_is_close(tiny_models: Build) -> None:
    decoder = tiny_models().decoder
    full = decoder(latents())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = decoder(latents())
    assert (half - full).abs().mean() < 3e-2 * full.abs().mean()


def test_no_parameter_is_frozen(tiny_models: Build) -> None:
    decoder = tiny_models(num_registers=7, decoder_input_width=20).decoder
    assert all(p.requires_grad for p in decoder.parameters())

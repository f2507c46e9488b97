"""RMSNorm, its hand-written backward, and the modulation folded into it."""

import pytest
import torch
from torch.nn.functional import rms_norm

from openunite.nn.norm import Modulation, RMSNorm, build_latent_norm, unit_rms

EPS = 1e-6


def sample(*shape: int, size: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("size", [1e-4, 1e-3, 1.0, 1e4])
def test_it_is_the_definition(size: float) -> None:
    """1e-4 and 1e-3 are where eps shows."""
    x = sample(3, 5, 8, size=size)
    expected = x / (x.square().mean(dim=-1, keepdim=True) + EPS).sqrt()
    torch.testing.assert_close(unit_rms(x), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_it_agrees_with_torch_forward_and_backward(size: float) -> None:
    results = []
    for norm in (unit_rms, lambda x: rms_norm(x, x.shape[-1:], eps=EPS)):
        x = sample(4, 16, size=size).requires_grad_()
        out = norm(x)
        (out * sample(4, 16).cos()).sum().backward()
        results.append((out.detach(), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [3e-3, 1.0])
def test_the_backward_is_the_derivative(size: float) -> None:
    x = sample(2, 3, 6, size=size).requires_grad_()
    step = 1e-6 * size
    assert torch.autograd.gradcheck(unit_rms, (x,), eps=step, atol=1e-5 / size, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = sample(2, 64, size=100.0).to(dtype)
    out = unit_rms(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, unit_rms(x.double()).float(), rtol=1e-6, atol=1e-6)


def test_zeros_stay_zero_with_a_finite_gradient() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    out = unit_rms(x)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(2, 4))
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_weight_and_modulation_follow_the_formula() -> None:
    norm = RMSNorm(8).double()
    with torch.no_grad():
        norm.weight.copy_(sample(8))
    x, shift, scale = sample(2, 5, 8), sample(2, 1, 8).sin(), sample(2, 1, 8).cos()
    h = unit_rms(x) * norm.weight
    torch.testing.assert_close(norm(x), h)
    torch.testing.assert_close(norm(x, Modulation(shift, scale)), h * (1 + scale) + shift)


def test_the_weight_starts_at_one() -> None:
    assert torch.equal(RMSNorm(4).weight, torch.ones(4))


def test_latent_norms_follow_their_formulas() -> None:
    x = sample(3, 4, 8)
    centered = x - x.mean(-1, keepdim=True)
    plain = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(build_latent_norm("layernorm_plain", 8)(x), plain)
    assert list(build_latent_norm("layernorm_plain", 8).parameters()) == []
    affine = build_latent_norm("layernorm", 8).double()
    with torch.no_grad():
        affine.weight.copy_(sample(8))
        affine.bias.copy_(sample(8).cos())
    torch.testing.assert_close(affine(x), plain * affine.weight + affine.bias)
    torch.testing.assert_close(build_latent_norm("rmsnorm", 8)(x), unit_rms(x))
    assert build_latent_norm("none", 8)(x) is x


def test_an_unknown_latent_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"latent norm must be .*got 'batchnorm'"):
        build_latent_norm("batchnorm", 8)

"""Attention against a loop over heads, rotation, masks and pruned queries."""

import math

import pytest
import torch
from torch import Tensor

from openunite.nn.attention import Attention, rotate
from openunite.nn.embeddings import rotary_angles

WIDTH, HEADS = 24, 3


def sample(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture(params=[True, False], ids=["rotary", "plain"])
def attention(request: pytest.FixtureRequest) -> Attention:
    module = Attention(WIDTH, HEADS, rotary=request.param).double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * sample(*parameter.shape, seed=i) + (parameter.ndim == 1))
    return module


def angles_of(module: Attention, length: int) -> Tensor | None:
    rotary = "q_norm" in dict(module.named_parameters())
    return rotary_angles(length, WIDTH // HEADS) if rotary else None


def rotated_by_hand(x: Tensor, angles: Tensor) -> Tensor:
    """(x_2i, x_2i+1) -> (x_2i cos - x_2i+1 sin, x_2i+1 cos + x_2i sin), one number at a time."""
    out = torch.empty_like(x)
    for i in range(x.shape[-1] // 2):
        even, odd, angle = x[..., 2 * i], x[..., 2 * i + 1], angles[..., i]
        out[..., 2 * i] = even * torch.cos(angle) - odd * torch.sin(angle)
        out[..., 2 * i + 1] = odd * torch.cos(angle) + even * torch.sin(angle)
    return out


def attended_by_hand(module: Attention, x: Tensor, angles: Tensor | None) -> Tensor:
    """One sample (S, D), one head at a time; qkv is laid out [q | k | v], each heads x width."""
    head, rows = WIDTH // HEADS, module.qkv(x)
    outputs = []
    for h in range(HEADS):
        q, k, v = (rows[:, WIDTH * part + head * h :][:, :head] for part in range(3))
        if angles is not None:
            q, k = (
                rotated_by_hand(y * (y.square().mean(1, True) + 1e-6).rsqrt() * w, angles)
                for y, w in ((q, module.q_norm), (k, module.k_norm))
            )
        outputs.append(torch.softmax(q @ k.T / math.sqrt(head), dim=1) @ v)
    return module.out(torch.cat(outputs, dim=1))


def test_it_is_attention(attention: Attention) -> None:
    x = sample(2, 7, WIDTH)
    angles = angles_of(attention, 7)
    expected = torch.stack([attended_by_hand(attention, row, angles) for row in x])
    torch.testing.assert_close(attention(x, angles), expected)


def test_padding_changes_nothing(attention: Attention) -> None:
    x, angles = sample(2, 5, WIDTH), angles_of(attention, 9)
    padded = torch.cat([x, 1e3 * sample(2, 4, WIDTH, seed=3)], dim=1)
    mask = torch.arange(9).expand(2, 9) < 5
    short = attention(x, None if angles is None else angles[:5])
    torch.testing.assert_close(attention(padded, angles, mask)[:, :5], short)


def test_a_mask_belongs_to_its_sample(attention: Attention) -> None:
    x, angles = sample(2, 6, WIDTH), angles_of(attention, 6)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 2] = False
    masked, free = attention(x, angles, mask), attention(x, angles)
    torch.testing.assert_close(masked[0], free[0])
    assert (masked[1] - free[1]).abs().max() > 1e-3


@pytest.mark.parametrize("queries", [slice(0, 3), slice(2, 6), slice(6, 7)])
def test_fewer_queries_are_a_slice_of_the_result(attention: Attention, queries: slice) -> None:
    x, angles = sample(2, 7, WIDTH), angles_of(attention, 7)
    part = attention(x, angles, queries=queries)
    torch.testing.assert_close(part, attention(x, angles)[:, queries])


@pytest.mark.parametrize(("width", "heads"), [(6, 2), (15, 3), (10, 4)])
def test_an_odd_or_broken_head_width_is_refused(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"got width {width} and {heads} heads"):
        Attention(width, heads, rotary=True)


def test_rotation_is_the_formula_on_both_paths() -> None:
    """The CPU takes the complex path; the formula of the other is written out here."""
    x, angles = sample(2, 5, 3, 8), sample(5, 1, 4)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    real = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)
    torch.testing.assert_close(rotate(x, angles), real)
    torch.testing.assert_close(rotate(x, angles), rotated_by_hand(x, angles.expand(2, 5, 3, 4)))


def test_the_path_of_other_devices_has_the_same_shape_and_type() -> None:
    x, angles = sample(2, 5, 3, 8).to("meta"), sample(5, 1, 4).to("meta")
    out = rotate(x, angles)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)


def test_rotation_keeps_norms_and_angle_zero_changes_nothing() -> None:
    x = sample(4, 9, 8)
    angles = rotary_angles(9, 8)
    torch.testing.assert_close(rotate(x, angles).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x, angles)[:, 0], x[:, 0])


def test_products_depend_on_the_distance_alone() -> None:
    q, k, angles = sample(8), sample(8, seed=1), rotary_angles(40, 8)
    for distance in (0, 1, 7):
        products = [
            float(rotate(q, angles[p + distance]) @ rotate(k, angles[p])) for p in (0, 5, 30)
        ]
        assert products == pytest.approx([products[0]] * 3, abs=1e-10)
    assert float(rotate(q, angles[1]) @ k) != pytest.approx(float(q @ k), abs=1e-3)

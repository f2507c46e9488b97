"""Philox4x32-10, a counter-based generator of random words, in int64 tensor arithmetic.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. The words are the same
on every device.
"""

from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

W = TypeVar("W", Tensor, NDArray[np.int64])

MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: tuple[W, W, W, W], key: tuple[W | int, W | int]) -> tuple[W, W, W, W]:
    """Ten rounds on int64 tensors or arrays of 32-bit words that broadcast; the key may be ints."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & MASK) ^ c1 ^ k0,
            p1 & MASK,
            ((p0 >> 32) & MASK) ^ c3 ^ k1,
            p0 & MASK,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & MASK, (k1 + _KEY_STEPS[1]) & MASK
    return c0, c1, c2, c3


def random_words(
    draw: Tensor | int,
    slots: Tensor,
    step: Tensor | int,
    key: tuple[Tensor | int, Tensor | int],
    count: int,
) -> Int[Tensor, "b n"]:
    """(B, count) random 32-bit words in int64; counter = (block, draw, slot, step)."""
    blocks = torch.arange((count + 3) // 4, device=slots.device)[None, :]
    zero = torch.zeros_like(blocks)
    counter = (blocks, zero + (draw & MASK), slots & MASK, zero + (step & MASK))
    # For small operations NumPy has a quarter of PyTorch's overhead.
    if slots.is_cpu and not torch.compiler.is_compiling():
        c0, c1, c2, c3 = (words.numpy() for words in counter)
        k0, k1 = (k.numpy() if isinstance(k, Tensor) else k for k in key)
        drawn = philox4x32((c0, c1, c2, c3), (k0, k1))
        out = torch.from_numpy(np.stack(np.broadcast_arrays(*drawn), axis=-1))
    else:
        out = torch.stack(torch.broadcast_tensors(*philox4x32(counter, key)), dim=-1)
    return out.flatten(1)[:, :count]

"""Counter-based random numbers: every draw is a pure function of where it is used.

A draw is addressed by (seed, stream, step, slot, draw). Nothing is remembered between calls, so a
run gives the same numbers however its batch is cut into micro-batches, spread over processes, or
interrupted and resumed. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", 2011), written in int64 tensor arithmetic; its bits are equal on every device.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


class Stream(IntEnum):
    """What a draw is for. Streams never overlap; a new purpose gets a new number."""

    REGISTERS = 0
    TOKENIZE_TIME = 1
    FLOW_TIME = 2
    FLOW_NOISE = 3
    LABEL_DROPOUT = 4
    RECON_CHOICE = 5
    RECON_TIME = 6
    RECON_NOISE = 7
    AUGMENT = 8
    SAMPLE = 9


def philox4x32(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten Philox rounds on four broadcastable int64 tensors that hold 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


@dataclass(frozen=True)
class SlotRandom:
    """Random numbers for the samples in `slots` (B,) of the global batch of optimizer step `step`.

    The numbers of one sample depend on its own slot only, never on its batch mates.
    """

    seed: int
    step: int
    slots: Int[Tensor, " b"]

    def uniform(self, stream: Stream, *shape: int, draw: int = 0) -> Float[Tensor, "b ..."]:
        """Uniform numbers in the open interval (0, 1), float32, shape (B, *shape)."""
        words = _words(self.slots, self.seed, stream, self.step, draw, math.prod(shape))
        return _unit(words).view(len(self.slots), *shape)

    def normal(self, stream: Stream, *shape: int, draw: int = 0) -> Float[Tensor, "b ..."]:
        """Standard normal numbers by Box-Muller, float32, shape (B, *shape)."""
        count = math.prod(shape)
        unit = _unit(_words(self.slots, self.seed, stream, self.step, draw, 2 * ((count + 1) // 2)))
        first, second = unit.chunk(2, dim=1)
        radius, angle = torch.sqrt(-2.0 * torch.log(first)), 2.0 * math.pi * second
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].reshape(len(self.slots), *shape)


def seeded_normal(seeds: Int[Tensor, " b"], *shape: int) -> Float[Tensor, "b ..."]:
    """Standard normal noise for sampling: row i is a function of `seeds[i]` (64 bits) alone."""
    halves = zip((seeds & _MASK).tolist(), ((seeds >> 32) & _MASK).tolist(), strict=True)
    slot = torch.zeros(1, dtype=torch.int64)
    rows = [SlotRandom(low, high, slot).normal(Stream.SAMPLE, *shape) for low, high in halves]
    return torch.cat(rows) if rows else torch.empty(0, *shape)


def permutation(size: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """A shuffling of range(size) that depends on (seed, epoch) alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) & 0x7FFFFFFFFFFFFFFF)
    return torch.randperm(size, generator=generator)


def _words(slots: Tensor, seed: int, stream: int, step: int, draw: int, count: int) -> Tensor:
    """(B, count) random 32-bit words in int64; counter = (block, draw, slot, step)."""
    blocks = torch.arange((count + 3) // 4, device=slots.device)[None, :]
    word = torch.tensor  # 0-dim tensors keep the arithmetic in int64 on every device
    counter = (
        blocks,
        word(draw & _MASK, device=slots.device),
        slots[:, None] & _MASK,
        word(step & _MASK, device=slots.device),
    )
    key = (
        word(seed & _MASK, device=slots.device),
        word((int(stream) << 24) ^ ((seed >> 32) & 0xFFFFFF), device=slots.device),
    )
    out = torch.broadcast_tensors(*philox4x32(counter, key))
    return torch.stack(out, dim=-1).flatten(1)[:, :count]


def _unit(words: Tensor) -> Tensor:
    """23 high bits of a word to the middle of one of 2^23 cells of (0, 1), exact in float32."""
    return ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23

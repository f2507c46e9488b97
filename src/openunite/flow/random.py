"""Counter-based random numbers: every draw is a pure function of where it is used.

A draw is addressed by (seed, stream, step, slot, draw). Nothing is remembered between calls, so a
run gives the same numbers however its batch is cut into micro-batches, spread over processes, or
interrupted and resumed. The generator is Philox (philox.py), whose bits are equal on every device.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from openunite.philox import MASK, random_words


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
    POSTERIOR = 10
    CONDITION_DROPOUT = 11  # a number for each condition, in the order of their names
    COMMON_DROPOUT = 12
    CONDITION_BLUR = 13  # as above, with as many numbers as each kind takes
    PARTIAL = 14


@dataclass(frozen=True)
class SlotRandom:
    """Random numbers for the samples in `slots` (B,) of the global batch of optimizer step `step`.

    The numbers of one sample depend on its own slot only, never on its batch mates. `fused` has
    torch.compile make one kernel of a draw, which is some 140 small operations without it.
    """

    seed: int
    step: int
    slots: Int[Tensor, " b"]
    fused: bool = False

    def uniform(self, stream: Stream, *shape: int, draw: int = 0) -> Float[Tensor, "b ..."]:
        """Uniform numbers in the open interval (0, 1), float32, shape (B, *shape)."""
        numbers = self._draw(_unit, stream, draw, math.prod(shape))
        return numbers.view(len(self.slots), *shape)

    def normal(self, stream: Stream, *shape: int, draw: int = 0) -> Float[Tensor, "b ..."]:
        """Standard normal numbers by Box-Muller, float32, shape (B, *shape)."""
        count = math.prod(shape)
        numbers = self._draw(_box_muller, stream, draw, 2 * ((count + 1) // 2))
        return numbers[:, :count].reshape(len(self.slots), *shape)

    def _draw(
        self, finish: Callable[[Tensor], Tensor], stream: Stream, draw: int, count: int
    ) -> Float[Tensor, "b n"]:
        key = (self.seed & MASK, (int(stream) << 24) ^ ((self.seed >> 32) & 0xFFFFFF))
        if not self.fused:
            return finish(random_words(draw, self.slots[:, None], self.step, key, count))
        # As a tensor: a number would be compiled in, and every step anew.
        address = torch.from_numpy(np.array((draw, self.step, *key)))
        address = address.to(self.slots.device, non_blocking=self.slots.is_cuda)
        return _compiled()(self.slots[:, None], address, count, finish)


@cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_at_address, dynamic=False)


def _at_address(
    slots: Tensor, address: Int[Tensor, " 4"], count: int, finish: Callable[[Tensor], Tensor]
) -> Tensor:
    draw, step, *key = address.unbind()
    return finish(random_words(draw, slots, step, (key[0], key[1]), count))


def seeded_normal(seeds: Int[Tensor, " b"], *shape: int, draw: int = 0) -> Float[Tensor, "b ..."]:
    """Standard normal noise for sampling: row i depends on `seeds[i]` (64 bits) and `draw`."""
    count, slot = math.prod(shape), torch.zeros_like(seeds)[:, None]
    key = (seeds[:, None] & MASK, int(Stream.SAMPLE) << 24)
    words = random_words(draw, slot, (seeds[:, None] >> 32) & MASK, key, 2 * ((count + 1) // 2))
    return _box_muller(words)[:, :count].reshape(len(seeds), *shape)


def permutation(size: int, seed: int, epoch: int) -> Int[Tensor, " n"]:
    """A shuffling of range(size) that depends on (seed, epoch) alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) & 0x7FFFFFFFFFFFFFFF)
    return torch.randperm(size, generator=generator)


def _box_muller(words: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Pairs of normal numbers from pairs of words, the first half paired with the second."""
    first, second = _unit(words).chunk(2, dim=1)
    radius, angle = torch.sqrt(-2.0 * torch.log(first)), 2.0 * math.pi * second
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)


def _unit(words: Tensor) -> Tensor:
    """23 high bits of a word to the middle of one of 2^23 cells of (0, 1), exact in float32."""
    return ((words >> 9).to(torch.float32) + 0.5) * 2.0**-23

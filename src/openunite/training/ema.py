"""Exponential moving average of the weights."""

import copy

import torch
from torch import nn


class EMA:
    """A frozen average of `model`: e <- d e + (1 - d) p with d = min(decay, (1 + n) / (10 + n)).

    The lower decay of the first steps n removes the random initialization from the average sooner.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self._followed = decay, model

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after optimizer step `step` (counted from 0)."""
        # Looked up on every call, because sharding replaces the parameters.
        averages = [average.detach() for average in self.model.parameters()]
        weights = [weight.detach() for weight in self._followed.parameters()]
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, weights, 1.0 - decay)

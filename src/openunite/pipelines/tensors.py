"""A pipeline for data points that are tensors of one shape, as modalities start with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openunite.pipelines.asked import Asked
from openunite.pipelines.base import Generators, Labels, UnitePipeline


class TensorPipeline(UnitePipeline):
    """Generate, encode, decode and reconstruct tensors (B, ...) in the form of the model."""

    def __call__(
        self,
        class_labels: Labels = None,
        *,
        num_samples: int = 1,
        generator: Generators | None = None,
        seeds: Sequence[int] | None = None,
        **options: Any,
    ) -> Tensor:
        """Generate one sample per class label, or `num_samples` without a class.

        Sample i is a function of its own seed. `options` are those of `generate`:
        conditions, and those of `sample_latents`.
        """
        count = num_samples if class_labels is None else len(class_labels)
        chosen = self._seeds(count, generator, seeds).tolist()
        return self.generate(class_labels, seeds=chosen, **options)

    def generate(
        self,
        class_labels: Labels,
        *,
        seeds: Sequence[int],
        conditions: Asked = None,
        **options: Any,
    ) -> Tensor:
        """One sample per seed: a tensor (B, ...).

        `conditions` name values, one for all samples or a list with one for each: 4.2, (4, 5).
        """
        count = len(seeds) if class_labels is None else len(class_labels)
        given = self._seeds(count, None, seeds)
        evidence = self._evidence(class_labels, conditions, count)
        return self.decode(self.sample_latents(evidence, given, **options))

    def preprocess(self, items: Sequence[Any]) -> Tensor:
        """Data points as the model takes them: float32, on its device."""
        stacked = np.stack([np.asarray(item, dtype=np.float32) for item in items])
        return torch.from_numpy(stacked).to(self.device)

    def encode(self, data: Tensor, generator: Generators | None = None) -> Float[Tensor, "b k c"]:
        """Data (B, ...) -> latents (B, K, C), deterministic unless a generator is given."""
        return self.tokenize(data.to(self.device), generator)

    def decode(self, latents: Float[Tensor, "b k c"]) -> Tensor:
        """Latents (B, K, C) -> data (B, ...)."""
        return self.detokenize(latents)

    def reconstruct(self, data: Tensor) -> Tensor:
        """decode(encode(data))."""
        return self.decode(self.encode(data))

"""A pipeline for data points that are tensors of one shape, as modalities start with."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

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

        Sample i is a function of its own seed. `options` are those of `sample_latents`.
        """
        count = num_samples if class_labels is None else len(class_labels)
        chosen = self._seeds(count, generator, seeds).tolist()
        return self.generate(class_labels, seeds=chosen, **options)

    def generate(self, class_labels: Labels, *, seeds: Sequence[int], **options: Any) -> Tensor:
        """One sample per seed: a tensor (B, ...)."""
        count = len(seeds) if class_labels is None else len(class_labels)
        given, evidence = self._seeds(count, None, seeds), self._evidence(class_labels)
        return self.decode(self.sample_latents(evidence, given, **options))

    @cached_property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of a data point: that of what comes out of the decoder."""
        return tuple(self.decode(torch.zeros(1, *self.latent_shape)).shape[1:])

    def preprocess(self, items: Sequence[Any]) -> Tensor:
        """Data points as the model takes them: float32, on its device. ValueError for others."""
        arrays = [np.asarray(item, dtype=np.float32) for item in items]
        if wrong := [array.shape for array in arrays if array.shape != self.data_shape]:
            raise ValueError(f"this model takes arrays of shape {self.data_shape}, got {wrong[0]}")
        return torch.from_numpy(np.stack(arrays)).to(self.device)

    def encode(self, data: Tensor, generator: Generators | None = None) -> Float[Tensor, "b k c"]:
        """Data (B, ...) -> latents (B, K, C), deterministic unless a generator is given."""
        return self.tokenize(data.to(self.device), generator)

    def decode(self, latents: Float[Tensor, "b k c"]) -> Tensor:
        """Latents (B, K, C) -> data (B, ...)."""
        return self.detokenize(latents)

    def reconstruct(self, data: Tensor) -> Tensor:
        """decode(encode(data))."""
        return self.decode(self.encode(data))

"""A pipeline for data points that are tensors of one shape, as modalities start with."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from openunite.pipelines.asked import Asked
from openunite.pipelines.base import UnitePipeline
from openunite.pipelines.inputs import Generators, Labels, Seeds, count_of, seeds_of


class TensorPipeline(UnitePipeline):
    """Generate, encode, decode and reconstruct tensors (B, ...) in the form of the model."""

    def __call__(
        self,
        class_labels: Labels = None,
        *,
        num_samples: int | None = None,
        generator: Generators | None = None,
        seeds: Seeds | None = None,
        **options: Any,
    ) -> Tensor:
        """Generate `num_samples` samples, or as many as there are class labels or seeds.

        Sample i is a function of its own seed. `options` are those of `generate`:
        conditions, and those of `sample_latents`.
        """
        self.refuse_unknown(options, type(self).__call__, "conditions")
        count = count_of("num_samples", num_samples, class_labels, seeds, generator)
        return self.generate(class_labels, seeds=seeds_of(count, generator, seeds), **options)

    def generate(
        self, class_labels: Labels, *, seeds: Seeds, conditions: Asked = None, **options: Any
    ) -> Tensor:
        """One sample per seed: a tensor (B, ...).

        `conditions` name values, one for all samples or a list with one for each: 4.2, (4, 5).
        """
        self.refuse_unknown(options, type(self).generate)
        count = count_of("seeds", None, seeds)
        evidence = self._evidence(class_labels, count, conditions)
        given = seeds_of(count, None, seeds)
        return self.decode(self.sample_latents(evidence, given, **options))

    @cached_property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of a data point: that of what comes out of the decoder."""
        return tuple(self.decode(torch.zeros(1, *self.latent_shape)).shape[1:])

    def preprocess(self, items: Sequence[Any] | np.ndarray | Tensor) -> Tensor:
        """Data points as the model takes them: float32, on its device.

        ValueError for other shapes, NaN and infinity.
        """
        rows = [torch.as_tensor(np.asarray(item, dtype=np.float32)) for item in items]
        if not rows:
            raise ValueError("expected at least one data point, got none")
        if wrong := [tuple(row.shape) for row in rows if tuple(row.shape) != self.data_shape]:
            raise ValueError(f"this model takes arrays of shape {self.data_shape}, got {wrong[0]}")
        found = torch.stack(rows)
        if not bool(found.isfinite().all()):
            raise ValueError("the data hold NaN or infinity; leave those data points out")
        return found.to(self._execution_device)

    def encode(
        self, data: Sequence[Any] | np.ndarray | Tensor, generator: Generators | None = None
    ) -> Float[Tensor, "b k c"]:
        """Data (B, ...) -> latents (B, K, C), deterministic unless a generator is given."""
        return self.tokenize(self.preprocess(data), generator)

    def decode(self, latents: Float[Tensor, "b k c"]) -> Tensor:
        """Latents (B, K, C) -> data (B, ...)."""
        return self.detokenize(latents)

    def reconstruct(self, data: Sequence[Any] | np.ndarray | Tensor) -> Tensor:
        """decode(encode(data))."""
        return self.decode(self.encode(data))

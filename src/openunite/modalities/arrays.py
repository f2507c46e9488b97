"""The task of a modality whose data points are arrays of one shape: what a new one starts with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from openunite.commands import Evaluate
from openunite.data.arrays import ArrayData, open_arrays
from openunite.data.holdout import Holdout
from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.measured import Measured, Metric, flatten
from openunite.evaluation.sections import PartSection, ReferenceSection, SamplesSection
from openunite.modalities.card import model_section, protocol_card
from openunite.pipelines.tensors import TensorPipeline
from openunite.runs import Run
from openunite.task import Metrics, Task
from openunite.training.config import RunConfig

_MOST = 1000  # held-out data points, and samples, for the metrics of a run
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class ArrayMetric(Metric):
    """A metric of samples (N, ...) against held-out data (M, ...)."""

    compute: Callable[[np.ndarray, np.ndarray], Measured]


class ArrayTask(Task):
    """Everything that commands need, for arrays: a subclass names `things` and its `metrics`."""

    metrics: ClassVar[tuple[ArrayMetric, ...]] = ()

    def open(self, config: RunConfig, source: Any, *, progress: bool) -> ArrayData:
        data = config.data
        holdout = Holdout(data.holdout_share, data.holdout_max)
        return open_arrays(source, self.things, holdout, data.max_bad_share)

    def resolve(self, config: RunConfig, data: ArrayData) -> RunConfig:
        """There are no classes."""
        return replace(config, num_classes=0)

    def finish(
        self, config: RunConfig, folder: Path, data: ArrayData, pipeline: TensorPipeline
    ) -> Metrics:
        """Write samples and card.json into the folder; return flat metrics."""
        card, samples = self._card(pipeline, data, folder.name, "ema", min(_MOST, 100), 0)
        card.save(folder / "card.json")
        self.write(folder / f"samples{self.outputs[0]}", list(samples))
        prefixes = {"samples": "sample_", "real": "real_", "reconstructions": "recon_"}
        return dict(flatten(card.metrics, prefixes))

    def evaluate_model(
        self, command: Evaluate, pipeline: TensorPipeline, data: Any, extractor: Any
    ) -> ProtocolCard:
        """The card of `command.num_samples` samples against the held-out data of the run."""
        run = Run.of(command.source)
        source = command.data or run.source(data)
        opened = self.open(run.config, source, progress=False)
        card, _ = self._card(
            pipeline, opened, run.folder.name, command.weights, command.num_samples, command.seed
        )
        card.save(Path(command.output or run.folder / "card-evaluate.json"))
        return card

    def _card(
        self,
        pipeline: TensorPipeline,
        data: ArrayData,
        source: str,
        weights: str,
        count: int,
        seed: int,
    ) -> tuple[ProtocolCard, np.ndarray]:
        real = data.test.items[:_MOST]
        starts = range(0, count, _AT_ONCE)
        seeds = [range(seed + i, seed + min(i + _AT_ONCE, count)) for i in starts]
        drawn = torch.cat([pipeline.generate(None, seeds=part) for part in seeds]).cpu().numpy()
        parts = torch.from_numpy(real).split(_AT_ONCE)
        outputs = torch.cat([pipeline.reconstruct(part) for part in parts]).cpu().numpy()
        error = np.abs(outputs - real).mean(axis=tuple(range(1, real.ndim)))
        columns = {
            "samples": {row.name: row.compute(drawn, real) for row in self.metrics},
            "real": {row.name: row.compute(data.train.items[:_MOST], real) for row in self.metrics},
            "reconstructions": {
                "mean_absolute_error": Measured(float(error.mean()), total=len(real))
            },
        }
        card = protocol_card(
            self.things,
            pipeline,
            model_section(pipeline, source, weights),
            ReferenceSection(data.name, data.fingerprint, "test", len(real)),
            SamplesSection(count, "none", seed),
            columns,
            batch_size=_AT_ONCE,
        )
        return replace(card, reconstruction=PartSection("test", len(real))), drawn

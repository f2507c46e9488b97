"""The task of modalities whose data points are arrays of one shape, as a base for new ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from openunite.analysis.base import Analyses, Found
from openunite.analysis.latents import latent_statistics
from openunite.commands import Evaluate
from openunite.data.arrays import ArrayData, open_arrays, unlabeled
from openunite.data.holdout import Holdout
from openunite.evaluation.card import ProtocolCard, class_counts
from openunite.evaluation.measured import Columns, Measured, Metric, flatten, vocabulary
from openunite.evaluation.sections import PartSection, ReferenceSection, SamplesSection
from openunite.modalities.card import model_section, protocol_card
from openunite.pipelines.tensors import TensorPipeline
from openunite.runs import Run
from openunite.task import Analyzed, Metrics, Task, Tell
from openunite.training.config import RunConfig

_MOST = 1000  # real data points for metrics
_DRAWN = 100  # samples at the end of a run
_AT_ONCE = 256
_PREFIXES = {"samples": "sample_", "real": "real_", "reconstructions": "recon_"}


@dataclass(frozen=True, kw_only=True)
class ArrayMetric(Metric):
    """A metric; `compute` takes samples (N, ...) and real data (M, ...)."""

    compute: Callable[[np.ndarray, np.ndarray], Measured]


class ArrayTask(Task):
    """Everything that commands need to handle arrays of one shape.

    A subclass sets `things` (the plural of a data point) and `metrics`, and overrides `fit` to
    derive settings from the shape. Data are stored in the model's form, so that the modality's
    `prepare` only has to augment them.
    """

    metrics: ClassVar[tuple[ArrayMetric, ...]] = ()

    # ---- a run --------------------------------------------------------------------------------

    def open(self, config: RunConfig, source: Any, *, progress: bool) -> ArrayData:
        data = config.data
        holdout = Holdout(data.holdout_share, data.holdout_max)
        return open_arrays(source, self.things, holdout, data.max_bad_share)

    def fit(self, settings: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """The settings of the modality for arrays of a shape. ValueError if they do not fit."""
        return dict(settings)

    def resolve(self, config: RunConfig, data: ArrayData) -> RunConfig:
        """The settings of the modality and the number of classes, from the data."""
        settings = self.fit(config.modality_config, data.train.items.shape[1:])
        return replace(config, modality_config=settings, num_classes=len(data.class_names))

    def record(self, data: ArrayData) -> dict[str, Any]:
        return {"class_names": list(data.class_names)}

    def finish(
        self, config: RunConfig, folder: Path, data: ArrayData, pipeline: TensorPipeline
    ) -> Metrics:
        """Write samples and card.json into the folder; return flat metrics."""
        command = Evaluate(str(folder), num_samples=_DRAWN)
        card, samples = self._measure(command, pipeline, data)
        card.save(folder / "card.json")
        self.write(folder / f"samples{self.outputs[0]}", list(samples))
        return dict(flatten(card.metrics, _PREFIXES))

    def evaluate_model(
        self, command: Evaluate, pipeline: TensorPipeline, data: Any, extractor: Any
    ) -> ProtocolCard:
        """The card of `command.num_samples` samples against the data of the run."""
        if extractor is not None or command.extractor != "auto":
            raise ValueError(f"an extractor is for images, not for {self.things}; leave it out")
        run = Run.of(command.source)
        source = command.data or run.source(data)
        opened = self.open(run.config, source, progress=False)
        card, _ = self._measure(replace(command, source=str(run.folder)), pipeline, opened)
        card.save(Path(command.output or run.folder / "card-evaluate.json"))
        return card

    def _measure(
        self, command: Evaluate, pipeline: TensorPipeline, data: ArrayData
    ) -> tuple[ProtocolCard, np.ndarray]:
        """The card and the samples, against one split; the other is the column "real"."""
        test, train = data.test.items[:_MOST], data.train.items[:_MOST]
        real, other = (test, train) if command.split == "test" else (train, test)
        drawn, classes = self._draw(command, pipeline), len(data.class_names)
        names = self.classes(pipeline, (), command.num_samples, "") or []
        counts = class_counts([int(name) for name in names], classes)
        card = protocol_card(
            self.things,
            pipeline,
            model_section(pipeline, Path(command.source).resolve().name, command.weights),
            ReferenceSection(data.name, data.fingerprint, command.split, len(real)),
            SamplesSection(
                command.num_samples, "balanced" if names else "none", command.seed, counts
            ),
            self._columns(pipeline, drawn, real, other, test),
            batch_size=command.batch_size,
            solver=command.solver,
            num_steps=command.num_inference_steps,
            scale=command.guidance_scale,
        )
        return replace(card, reconstruction=PartSection("test", len(test))), drawn

    def _draw(self, command: Evaluate, pipeline: TensorPipeline) -> np.ndarray:
        """Samples (N, ...) of all classes in turn, with the options of the command."""
        count = command.num_samples
        labels = self.classes(pipeline, (), count, "")
        parts: list[Tensor] = []
        for start in range(0, count, command.batch_size):
            stop = min(start + command.batch_size, count)
            samples = pipeline.generate(
                labels and labels[start:stop],
                seeds=range(command.seed + start, command.seed + stop),
                solver=command.solver,
                num_inference_steps=command.num_inference_steps,
                guidance_scale=command.guidance_scale,
            )
            parts.append(samples.cpu())
        return torch.cat(parts).numpy()

    def _columns(
        self,
        pipeline: TensorPipeline,
        drawn: np.ndarray,
        real: np.ndarray,
        other: np.ndarray,
        test: np.ndarray,
    ) -> Columns:
        """The metrics of this task, and those that other packages add to its things."""
        others = [row for row in vocabulary(self.things).metrics if isinstance(row, ArrayMetric)]
        rows = {row.name: row for row in (*self.metrics, *others)}.values()
        parts = torch.from_numpy(test).split(_AT_ONCE)
        outputs = torch.cat([pipeline.reconstruct(part) for part in parts]).cpu().numpy()
        error = Measured(float(np.abs(outputs - test).mean()), total=len(test))
        return {
            "samples": {row.name: row.compute(drawn, real) for row in rows},
            "real": {row.name: row.compute(other, real) for row in rows},
            "reconstructions": {"mean_absolute_error": error},
        }

    def analyses(self, run: Analyzed, other: tuple[str, Any] | None) -> Analyses:
        """Statistics of the latents of held-out data."""

        def latents() -> list[Found]:
            data = self.open(run.config, run.config.data.source, progress=False)
            items = torch.from_numpy(np.concatenate([data.test.items, data.train.items]))
            parts = items[: run.count].split(_AT_ONCE)
            found = torch.cat([run.pipeline.encode(part).cpu() for part in parts])
            return [Found(latent_statistics(found))]

        reason = f"none of them is known for {self.things}"
        return Analyses({"latents": latents}, {"layers and samples": reason})

    # ---- a trained model ----------------------------------------------------------------------

    def read(
        self, pipeline: TensorPipeline, sources: Sequence[str], tell: Tell
    ) -> Iterator[tuple[str, Any]]:
        found = False
        for name, item in super().read(pipeline, sources, tell):
            try:
                pipeline.preprocess([unlabeled(item)])
            except ValueError as error:
                tell(name, str(error))
                continue
            found = True
            yield name, unlabeled(item)
        if not found:
            raise ValueError(f"this model takes none of the {self.things} in {', '.join(sources)}")

    def item(self, value: Any) -> Any:
        return unlabeled(value)

"""Protocol cards of images, for `train`, `evaluate` and `sweep`."""

from torch import Tensor

from openunite.data.images.dataset import ImageData
from openunite.evaluation.card import ProtocolCard, class_counts, software
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.protocol import BATCH_SIZE, ImageEvaluation
from openunite.evaluation.images.table import settings
from openunite.evaluation.measured import Columns
from openunite.evaluation.sections import (
    ExtractorSection,
    PartSection,
    ReferenceSection,
    SamplesSection,
)
from openunite.modalities.card import (
    guidance_scale,
    guidance_section,
    model_section,
    sampling_section,
)
from openunite.modalities.image.context import EvaluationContext, SampleSettings, Split
from openunite.modalities.image.pipeline import ImagePipeline


def extractor_section(extractor: Extractor) -> ExtractorSection:
    """The network behind the features."""
    return ExtractorSection(extractor.name, extractor.label, extractor.checksum, extractor.dim)


def reference_section(
    pipeline: ImagePipeline, data: ImageData, split: str, labels: Tensor
) -> ReferenceSection:
    """Real images with these labels, at the size of the model."""
    shape = pipeline.encoder.config.modality_config
    return ReferenceSection(
        data=data.name,
        checksum=data.fingerprint,
        split=split,
        count=len(labels),
        class_names=tuple(data.class_names),
        class_counts=class_counts(labels.tolist(), data.num_classes),
        size=f"{shape['height']} x {shape['width']} x {shape['channels']}",
    )


def samples_section(
    labels: Tensor | None, num_classes: int, *, count: int, first_seed: int, order: str
) -> SamplesSection:
    """Samples with these labels; `order` says how the labels were chosen."""
    drawn = [] if labels is None else labels.tolist()
    return SamplesSection(
        count=count,
        labels="none" if labels is None else order,
        first_seed=first_seed,
        class_counts=class_counts(drawn, num_classes),
    )


def evaluation_card(
    context: EvaluationContext,
    drawn: SampleSettings,
    split: Split,
    scale: float | None,
    columns: Columns,
) -> ProtocolCard:
    """The card of samples that are compared with a split of the data."""
    pipeline, weights = context.pipeline, context.model.weights
    dataset, rows = context.rows(split)
    return ProtocolCard(
        kind="images",
        model=context.model,
        extractor=extractor_section(context.extractor),
        reference=reference_section(pipeline, context.data, split, dataset.labels[rows]),
        samples=samples_section(
            context.labels(drawn),
            context.num_classes,
            count=drawn.count,
            first_seed=drawn.first_seed,
            order=drawn.labels,
        ),
        sampling=sampling_section(
            pipeline, weights, context.batch_size, solver=drawn.solver, num_steps=drawn.num_steps
        ),
        guidance=guidance_section(pipeline, scale),
        software=software(str(context.device), context.group.size, context.batch_size),
        metrics=columns,
        metric_settings=settings(drawn.count, len(rows)),
    )


def run_card(
    pipeline: ImagePipeline,
    data: ImageData,
    source: str,
    found: ImageEvaluation,
    test_labels: Tensor,
    extractor: Extractor | None,
) -> ProtocolCard:
    """The card of the evaluation at the end of a run, which is called `source`."""
    classes = int(pipeline.encoder.config.num_classes)
    return ProtocolCard(
        kind="images",
        model=model_section(pipeline, source, "ema"),
        extractor=None if extractor is None else extractor_section(extractor),
        reference=reference_section(pipeline, data, "test", test_labels),
        samples=samples_section(
            found.labels if classes else None,
            classes,
            count=len(found.samples),
            first_seed=0,
            order="balanced",
        ),
        sampling=sampling_section(pipeline, "ema", BATCH_SIZE),
        guidance=guidance_section(pipeline, guidance_scale(pipeline)),
        reconstruction=PartSection("test", len(test_labels)),
        software=software(str(pipeline.device), 1, BATCH_SIZE),
        metrics=found.columns,
        metric_settings={"pixels": "floats in [0, 1]"},
    )

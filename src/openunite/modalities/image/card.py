"""Protocol cards of images, for `train`, `evaluate` and `sweep`."""

from dataclasses import replace

from torch import Tensor

from openunite.data.images.dataset import ImageData
from openunite.evaluation.card import ProtocolCard, class_counts, find_warnings
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
from openunite.modalities.card import model_section, protocol_card
from openunite.modalities.image.context import EvaluationContext, SampleSettings, Split
from openunite.modalities.image.pipeline import ImagePipeline


def evaluation_card(
    context: EvaluationContext, drawn: SampleSettings, split: Split, columns: Columns
) -> ProtocolCard:
    """The card of samples that are compared with a split of the data."""
    dataset, rows = context.rows(split)
    labels = context.labels(drawn)
    names = [] if labels is None else labels.tolist()
    order = "none" if labels is None else drawn.labels
    card = protocol_card(
        "images",
        context.pipeline,
        context.model,
        _reference(context.pipeline, context.data, split, dataset.labels[rows]),
        SamplesSection(
            drawn.count, order, drawn.first_seed, class_counts(names, context.num_classes)
        ),
        columns,
        batch_size=context.batch_size,
        processes=context.group.size,
        solver=drawn.solver,
        num_steps=drawn.num_steps,
    )
    return replace(
        card,
        extractor=extractor_section(context.extractor),
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
    """The card of the evaluation at the end of a run called `source`."""
    count, classes = len(found.labels), int(pipeline.encoder.config.num_classes)
    order = "balanced" if classes else "none"
    card = protocol_card(
        "images",
        pipeline,
        model_section(pipeline, source, "ema"),
        _reference(pipeline, data, "test", test_labels),
        SamplesSection(count, order, 0, class_counts(found.labels.tolist(), classes)),
        found.columns,
        batch_size=BATCH_SIZE,
    )
    card = replace(
        card,
        extractor=None if extractor is None else extractor_section(extractor),
        reconstruction=PartSection("test", len(test_labels)),
        metric_settings={"pixels": "floats in [0, 1]"},
    )
    return replace(card, warnings=find_warnings(card))


def extractor_section(extractor: Extractor) -> ExtractorSection:
    """The section on an extractor of features."""
    return ExtractorSection(extractor.name, extractor.label, extractor.checksum, extractor.dim)


def _reference(
    pipeline: ImagePipeline, data: ImageData, split: str, labels: Tensor
) -> ReferenceSection:
    """The section on the real images with these labels, at the size of the model."""
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

"""The protocol card of a pipeline, for every modality."""

from openunite.evaluation.card import ProtocolCard, software
from openunite.evaluation.measured import Columns
from openunite.evaluation.sections import (
    GuidanceSection,
    ModelSection,
    ReferenceSection,
    SamplesSection,
    SamplingSection,
)
from openunite.flow.guidance import NO_GUIDANCE
from openunite.pipelines.base import UnitePipeline
from openunite.runs import weights_checksums


def guidance_scale(pipeline: UnitePipeline, chosen: float | None = None) -> float:
    """The scale of guided samples, `chosen` or the pipeline's; NO_GUIDANCE without classes."""
    if pipeline.encoder.config.num_classes == 0:
        return NO_GUIDANCE
    return float(pipeline.sampling.guidance_scale if chosen is None else chosen)


def model_section(pipeline: UnitePipeline, source: str, weights: str) -> ModelSection:
    """The section on the model of a pipeline, with the checksums of its current weights."""
    encoder, decoder = weights_checksums(pipeline)
    parts = (pipeline.encoder, pipeline.decoder)
    parameters = sum(p.numel() for part in parts for p in part.parameters())
    names = tuple(pipeline.config.class_names)
    return ModelSection(source, weights, encoder, decoder, parameters, names)


def protocol_card(
    kind: str,
    pipeline: UnitePipeline,
    model: ModelSection,
    reference: ReferenceSection,
    samples: SamplesSection,
    metrics: Columns,
    *,
    batch_size: int,
    processes: int = 1,
    solver: str | None = None,
    num_steps: int | None = None,
    scale: float | None = None,
) -> ProtocolCard:
    """A card of samples; `solver`, `num_steps` and `scale` override the pipeline's settings."""
    how = pipeline.sampling.change(solver=solver, num_inference_steps=num_steps)
    adaptive = how.row.adaptive
    return ProtocolCard(
        kind=kind,
        model=model,
        reference=reference,
        samples=samples,
        sampling=SamplingSection(
            solver=how.solver,
            steps=None if adaptive else how.num_inference_steps,
            time_shift=1.0 if adaptive else how.time_shift,
            options={name: how.option(name) for name in how.row.options},
            weights=model.weights,
            precision=str(pipeline.dtype).removeprefix("torch."),
            batch_size=batch_size if adaptive else None,
        ),
        guidance=GuidanceSection(guidance_scale(pipeline, scale), how.guidance_interval),
        software=software(str(pipeline.device), processes, batch_size),
        metrics=metrics,
    )

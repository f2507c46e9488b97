"""Sections of a protocol card that follow from a pipeline, for every modality."""

from openunite.evaluation.sections import GuidanceSection, ModelSection, SamplingSection
from openunite.flow.guidance import NO_GUIDANCE
from openunite.loading import weights_checksums
from openunite.pipelines.base import UnitePipeline


def guidance_scale(pipeline: UnitePipeline, chosen: float | None = None) -> float:
    """The scale of guided samples, `chosen` or the pipeline's; NO_GUIDANCE without classes."""
    if pipeline.encoder.config.num_classes == 0:
        return NO_GUIDANCE
    return float(pipeline.sampling.guidance_scale if chosen is None else chosen)


def model_section(pipeline: UnitePipeline, source: str, weights: str) -> ModelSection:
    """The model in a pipeline. Its checksums are those of the weights as they are now."""
    encoder, decoder = weights_checksums(pipeline)
    parts = (pipeline.encoder, pipeline.decoder)
    parameters = sum(p.numel() for part in parts for p in part.parameters())
    names = tuple(pipeline.config.class_names)
    return ModelSection(source, weights, encoder, decoder, parameters, names)


def sampling_section(
    pipeline: UnitePipeline,
    weights: str,
    batch_size: int,
    *,
    solver: str | None = None,
    num_steps: int | None = None,
) -> SamplingSection:
    """How a pipeline samples, with another solver or number of steps where they are given."""
    how = pipeline.sampling.change(solver=solver, num_inference_steps=num_steps)
    adaptive, stochastic = how.row.adaptive, how.solver == "sde"
    return SamplingSection(
        solver=how.solver,
        steps=None if adaptive else how.num_inference_steps,
        time_shift=1.0 if adaptive else how.time_shift,
        eta=how.option("eta") if stochastic else 0.0,
        temperature=how.option("temperature") if stochastic else 1.0,
        weights=weights,
        precision=str(pipeline.dtype).removeprefix("torch."),
        batch_size=batch_size if adaptive else None,
    )


def guidance_section(
    pipeline: UnitePipeline, scale: float | None, swept_on: str = "nothing"
) -> GuidanceSection:
    """How a pipeline guides its samples."""
    return GuidanceSection(scale, pipeline.sampling.guidance_interval, swept_on)

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
from openunite.flow.solvers import Solver
from openunite.loading import weights_checksums
from openunite.pipelines.base import UnitePipeline

NO_GUIDANCE = 1.0


def is_adaptive(solver: Solver) -> bool:
    """Whether a solver chooses its own steps, for all samples of a batch together."""
    return solver == "dopri5"


def guidance_scale(pipeline: UnitePipeline, chosen: float | None = None) -> float:
    """The scale of guided samples, `chosen` or the pipeline's; NO_GUIDANCE without classes."""
    if pipeline.encoder.config.num_classes == 0:
        return NO_GUIDANCE
    return float(pipeline.config.guidance_scale if chosen is None else chosen)


def model_section(pipeline: UnitePipeline, source: str, weights: str) -> ModelSection:
    """The model in a pipeline. Its checksums are those of the weights as they are now."""
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
    solver: Solver | None = None,
    num_steps: int | None = None,
) -> ProtocolCard:
    """A card of samples; `solver` and `num_steps` override the settings of the pipeline."""
    config = pipeline.config
    solver = solver or config.solver
    adaptive, stochastic = is_adaptive(solver), solver == "sde"
    steps = config.num_inference_steps if num_steps is None else num_steps
    return ProtocolCard(
        kind=kind,
        model=model,
        reference=reference,
        samples=samples,
        sampling=SamplingSection(
            solver=solver,
            steps=None if adaptive else steps,
            time_shift=1.0 if adaptive else config.time_shift,
            eta=config.eta if stochastic else 0.0,
            temperature=config.temperature if stochastic else 1.0,
            weights=model.weights,
            precision=str(pipeline.dtype).removeprefix("torch."),
            batch_size=batch_size if adaptive else None,
        ),
        guidance=GuidanceSection(guidance_scale(pipeline), tuple(config.guidance_interval)),
        software=software(str(pipeline.device), processes, batch_size),
        metrics=metrics,
    )

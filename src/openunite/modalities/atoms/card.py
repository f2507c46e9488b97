"""The protocol card of a run on molecules or crystals."""

from openunite.data.atoms.dataset import AtomData
from openunite.evaluation.card import ProtocolCard, software
from openunite.evaluation.measured import Columns
from openunite.evaluation.sections import PartSection, ReferenceSection, SamplesSection
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.card import (
    guidance_scale,
    guidance_section,
    model_section,
    sampling_section,
)


def run_card(
    kind: str,
    pipeline: AtomPipeline,
    data: AtomData,
    source: str,
    columns: Columns,
    *,
    samples: int,
    references: int,
) -> ProtocolCard:
    """The card of a run called `source`; `kind` is "molecules" or "crystals"."""
    classes = int(pipeline.encoder.config.num_classes)
    return ProtocolCard(
        kind=kind,
        model=model_section(pipeline, source, "ema"),
        reference=ReferenceSection(data.name, data.fingerprint, "test", references),
        samples=SamplesSection(samples, kind if classes else "none", 0),
        sampling=sampling_section(pipeline, "ema", samples),
        guidance=guidance_section(pipeline, guidance_scale(pipeline)),
        reconstruction=PartSection("test", references),
        software=software(str(pipeline.device), 1, samples),
        metrics=columns,
    )

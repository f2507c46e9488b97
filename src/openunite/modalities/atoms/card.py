"""The protocol card of a run on molecules or crystals."""

from dataclasses import replace

from openunite.data.atoms.dataset import AtomData
from openunite.evaluation.card import ProtocolCard
from openunite.evaluation.measured import Columns
from openunite.evaluation.sections import PartSection, ReferenceSection, SamplesSection
from openunite.modalities.atoms.pipeline import AtomPipeline
from openunite.modalities.card import model_section, protocol_card


def run_card(
    kind: str,
    pipeline: AtomPipeline,
    data: AtomData,
    source: str,
    columns: Columns,
    sizes: tuple[int, int],
) -> ProtocolCard:
    """The card of a run called `source`; `sizes` are the numbers of samples and of references."""
    samples, references = sizes
    drawn = "formula" if pipeline.draws_formulas else "none"
    labels = kind if pipeline.encoder.config.num_classes else drawn
    card = protocol_card(
        kind,
        pipeline,
        model_section(pipeline, source, "ema"),
        ReferenceSection(data.name, data.fingerprint, "test", references),
        SamplesSection(samples, labels, 0),
        columns,
        batch_size=samples,
    )
    return replace(card, reconstruction=PartSection("test", references))

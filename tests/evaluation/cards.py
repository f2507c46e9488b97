"""A small protocol card, to be changed by tests."""

from dataclasses import replace
from typing import Any

from openunite.evaluation.card import ProtocolCard, software
from openunite.evaluation.measured import Measured
from openunite.evaluation.sections import (
    ExtractorSection,
    GuidanceSection,
    ModelSection,
    ReferenceSection,
    SamplesSection,
    SamplingSection,
)

CARD = ProtocolCard(
    kind="images",
    model=ModelSection("quickstart", "ema", "e" * 32, "d" * 32, 10),
    reference=ReferenceSection("mini", "bb", "test", 1000, (), (100,) * 10),
    samples=SamplesSection(1000, "balanced", 0, (100,) * 10),
    sampling=SamplingSection("heun", 25, 1.0, {}, "ema", "float32"),
    guidance=GuidanceSection(2.0, (0.1, 1.0)),
    software=software("cpu", 1, 250),
    metrics={
        "unguided": {"fd": Measured(1.5)},
        "guided": {"fd": Measured(0.7), "kid": Measured(0.01, 0.002)},
    },
    extractor=ExtractorSection("fashion", "FD-Fashion", "aa", 64),
)


def changed(section: str, **values: Any) -> ProtocolCard:
    """CARD with other values in one section."""
    return replace(CARD, **{section: replace(getattr(CARD, section), **values)})

"""`openunite convert`: a checkpoint of the released format as a pipeline."""

from pathlib import Path

from openunite.commands import Convert
from openunite.convert import convert as convert_checkpoint
from openunite.progress import say


def convert(command: Convert) -> None:
    """Convert and print what became of every tensor."""
    report = convert_checkpoint(
        Path(command.source),
        Path(command.output),
        weights=command.weights,
        context_start=command.context_start,
        decoder_heads=command.decoder_heads,
    )
    say(report.summary())

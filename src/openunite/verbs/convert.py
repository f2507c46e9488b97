"""`openunite convert`: turn a checkpoint of the released format into a pipeline folder."""

from pathlib import Path

from openunite.commands import Convert
from openunite.convert import convert as convert_checkpoint
from openunite.progress import say


def convert(command: Convert) -> None:
    """Run `openunite convert` and print its report."""
    report = convert_checkpoint(
        Path(command.source),
        Path(command.output),
        weights=command.weights,
        context_start=command.context_start,
        decoder_heads=command.decoder_heads,
    )
    say(report.summary())

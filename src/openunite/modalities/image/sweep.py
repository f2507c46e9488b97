"""`openunite sweep RUN`: samples at several guidance scales, compared with images kept for this."""

import math
from dataclasses import replace
from pathlib import Path

from openunite.commands import Sweep
from openunite.evaluation.images.feature_sets import gather
from openunite.evaluation.images.features.base import Extractor
from openunite.evaluation.images.sets import mean_nfe
from openunite.modalities.image.card import evaluation_card
from openunite.modalities.image.context import SampleSettings, open_context
from openunite.progress import say
from openunite.runs import load_pipeline

FIRST_SEED = 1_000_000_000  # far from the seeds of `evaluate`


def sweep(command: Sweep, extractor: Extractor | None = None) -> None:
    """Write and print a card with a column for each scale; no scale is selected.

    A given `extractor` replaces the one that the command names.
    """
    if not command.scales or not all(map(math.isfinite, command.scales)):
        given = " ".join(map(str, command.scales)) or "none"
        raise ValueError(f"--scales must be finite numbers, at least one, got {given}")
    context = open_context(command, load_pipeline(command.source), None, extractor)
    if context.num_classes == 0:
        raise ValueError(f"{command.source} was trained without classes: there is no guidance")
    drawn = SampleSettings(
        command.num_samples, FIRST_SEED, command.solver, command.num_inference_steps
    )
    reference, _ = context.real("sweep")
    made = {scale: context.samples(drawn, scale) for scale in command.scales}
    if not context.group.is_main:
        return
    metrics, labels = context.metrics(reference), context.labels(drawn)
    columns = {
        f"scale {scale:g}": metrics.evaluate(gather(features), labels) | {"nfe": mean_nfe(images)}
        for scale, (images, features) in made.items()
    }
    path = Path(command.output or context.home / f"sweep-{context.extractor.name}.json")
    card = evaluation_card(context, drawn, "sweep", columns)
    card = replace(card, guidance=replace(card.guidance, scale=None))
    card.save(path)
    say(f"\n{card.table()}\n-> {path}")
    say(
        "These are images of the training part. Choose a scale, then measure it once on the test\n"
        f"images: openunite evaluate {command.source} --guidance-scale SCALE"
    )

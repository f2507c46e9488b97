"""`openunite evaluate`: measure a model and write a protocol card."""

import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState

from openunite.commands import Evaluate
from openunite.evaluation.card import ProtocolCard, differences, load_card
from openunite.progress import say
from openunite.runs import Run, load_pipeline
from openunite.settings import check_options
from openunite.task import task_of
from openunite.training.device import on_cpu


def evaluate(
    source: str | Path | Run, data: Any = None, *, extractor: Any = None, **options: Any
) -> ProtocolCard:
    """Evaluate a run, a pipeline folder or a hub id; write its card beside the model and return it.

    `data` is a path or a name, or data in memory (default: the data of the run). `extractor` is the
    name of an extractor, or an object that computes features, such as a `CallableExtractor`
    (default: one that fits the data).
    `options` are fields of `openunite.commands.measuring.Evaluate`: num_samples, split, seed,
    guidance_scale, weights, output and others. Raises ValueError, OSError or ImportError for
    wrong arguments.
    """
    check_options(options, Evaluate, ("source", "data", "compare"))
    if isinstance(extractor, str):
        options["extractor"], extractor = extractor, None
    where = source.folder if isinstance(source, Run) else source
    named = str(data) if isinstance(data, str | Path) else None
    command = Evaluate(str(where), data=named, **options)
    pipeline, task_data = load_pipeline(command.source, command.weights), None if named else data
    card: ProtocolCard = task_of(pipeline).evaluate_model(command, pipeline, task_data, extractor)
    return card


def run(command: Evaluate) -> None:
    """Run `openunite evaluate`; exit with status 1 if the protocols of two cards differ."""
    other = load_card(command.compare) if command.compare else None
    if command.source.endswith(".json"):
        card = load_card(command.source)
    else:
        card = evaluate(**{k: x for k, x in vars(command).items() if k != "compare"})
        if not PartialState(cpu=on_cpu()).is_main_process:
            return
    _show(card, other, command.compare)


def _show(card: ProtocolCard, other: ProtocolCard | None, name: str | None) -> None:
    """Print a card and its differences from another; exit with 1 if their protocols differ."""
    say(card.table())
    if other is None:
        return
    models = differences(other, card, ("model",))
    say(f"\ncompared with {name}: {'the models differ' if models else 'the same model'}")
    for line in models:
        say(f"  {line}")
    found = differences(other, card)
    say(f"{len(found) or 'no'} settings of the protocol differ")
    for line in found:
        say(f"  {line}")
    for line in differences(other, card, ("software",)):
        say(f"  ({line})")
    if found:
        say("these numbers cannot be compared")
        sys.exit(1)

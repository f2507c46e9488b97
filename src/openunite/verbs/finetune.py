"""`openunite finetune-decoder`: a new run that trains only the decoder of a finished run."""

import math
from dataclasses import replace
from pathlib import Path

from openunite.commands import Finetune
from openunite.runs import Run
from openunite.training.config import RunConfig
from openunite.verbs.train import start


def finetune(command: Finetune) -> None:
    """Run `openunite finetune-decoder`; the same command again resumes it."""
    source = Run.of(command.source)
    output = Path(command.output or f"{command.source.rstrip('/')}-decoder")
    config = decoder_config(source.config, command)
    if not ((source.folder / "pipeline").is_dir() and source.metrics):
        raise ValueError(
            f"{source.folder} is not finished: it has no pipeline or no metrics.json; let its "
            f"training end first: openunite train --config {source.folder}/config.yaml --output "
            f"{source.folder}"
        )
    start(config, output)


def decoder_config(config: RunConfig, command: Finetune) -> RunConfig:
    """The run's settings, changed to train the decoder against a discriminator at half the rates.

    Sharding is switched off. Raises ValueError for impossible numbers in the command.
    """
    rates, steps, weight = config.optimizer, command.steps, command.adversarial_weight
    if steps is not None and steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}; leave it out for a fifth")
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"--adversarial-weight must be finite and at least 0, got {weight}")
    return replace(
        config,
        steps=max(1, config.steps // 5) if steps is None else steps,
        pace=None,
        init_from=command.source,
        sharding="none",
        objective=replace(config.objective, stage="decoder", adversarial_weight=weight),
        optimizer=replace(
            rates,
            muon_learning_rate=rates.muon_learning_rate / 2,
            adamw_learning_rate=rates.adamw_learning_rate / 2,
        ),
    )

"""`openunite finetune-decoder`: a run that starts from another and trains its decoder alone."""

from dataclasses import replace
from pathlib import Path

from openunite.commands import Finetune, Train
from openunite.jobs.train import train
from openunite.training.config import RunConfig, load_config, save_config


def finetune(command: Finetune) -> None:
    """Write the settings beside the run and train by them; again, it resumes."""
    source = Path(command.source)
    output = Path(command.output or f"{command.source.rstrip('/')}-decoder")
    config = decoder_config(load_config(source / "config.yaml"), command)
    settings = output.with_name(f"{output.name}.yaml")
    settings.parent.mkdir(parents=True, exist_ok=True)
    save_config(config, settings)
    train(Train(config=str(settings), output=str(output)))


def decoder_config(config: RunConfig, command: Finetune) -> RunConfig:
    """The run's settings with its decoder against a discriminator, at half of its rates.

    Each process holds whole weights, however the run was shared.
    """
    rates = config.optimizer
    return replace(
        config,
        steps=command.steps or max(1, config.steps // 5),
        init_from=command.source,
        sharding="none",
        objective=replace(
            config.objective, stage="decoder", adversarial_weight=command.adversarial_weight
        ),
        optimizer=replace(
            rates,
            muon_learning_rate=rates.muon_learning_rate / 2,
            adamw_learning_rate=rates.adamw_learning_rate / 2,
        ),
    )

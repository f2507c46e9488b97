"""The work behind the commands: gathers data, models, trainer, evaluation and pipeline."""

from importlib import import_module

from openunite.commands import Command
from openunite.training.collapse import CollapseError

# What a user can cause and mend; anything else is a defect and keeps its traceback.
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, CollapseError)

_HOMES = {
    "Train": "openunite.jobs.train",
    "Sample": "openunite.jobs.use",
    "Reconstruct": "openunite.jobs.use",
    "Encode": "openunite.jobs.use",
    "Evaluate": "openunite.jobs.evaluate",
    "Score": "openunite.jobs.score",
    "Sweep": "openunite.jobs.sweep",
    "Analyze": "openunite.jobs.analyze",
    "Report": "openunite.jobs.report",
    "Convert": "openunite.jobs.inspect",
    "Info": "openunite.jobs.inspect",
    "Prepare": "openunite.jobs.prepare",
    "Finetune": "openunite.jobs.finetune",
    "Study": "openunite.jobs.study",
}


def run(command: Command) -> None:
    """Do what the command says."""
    name = type(command).__name__
    getattr(import_module(_HOMES[name]), name.lower())(command)

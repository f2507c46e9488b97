"""The work behind the commands: gathers data, models, trainer, evaluation and pipeline."""

from importlib import import_module

from openunite.commands import Command
from openunite.training.collapse import CollapseError

# What a user can cause and mend; anything else is a defect and keeps its traceback.
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, CollapseError)

_HOMES = {
    "Train": "openunite.verbs.train",
    "Sample": "openunite.verbs.sample",
    "Reconstruct": "openunite.verbs.reconstruct",
    "Encode": "openunite.verbs.encode",
    "Evaluate": "openunite.verbs.evaluate",
    "Score": "openunite.verbs.score",
    "Sweep": "openunite.verbs.sweep",
    "Analyze": "openunite.verbs.analyze",
    "Report": "openunite.report.build",
    "Convert": "openunite.verbs.convert",
    "Info": "openunite.verbs.info",
    "Prepare": "openunite.verbs.prepare",
    "Finetune": "openunite.verbs.finetune",
    "Study": "openunite.study.run",
}


def run(command: Command) -> None:
    """Do what the command says."""
    name = type(command).__name__
    getattr(import_module(_HOMES[name]), name.lower())(command)

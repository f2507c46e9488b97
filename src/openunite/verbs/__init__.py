"""The verbs of the command line and of Python: one file each.

A verb is a function for Python, and `run(command)` is what the command line calls.
"""

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
    "ScoreImages": "openunite.verbs.score_images",
    "Sweep": "openunite.modalities.image.sweep",
    "Analyze": "openunite.verbs.analyze",
    "Report": "openunite.reporting.build",
    "Convert": "openunite.verbs.convert",
    "Info": "openunite.verbs.info",
    "Prepare": "openunite.verbs.prepare",
    "Finetune": "openunite.verbs.finetune",
    "Study": "openunite.study.run",
}

# Where the function of the verb's own name is for Python.
_FUNCTIONS = dict.fromkeys(
    ("Train", "Sample", "Reconstruct", "Encode", "Evaluate", "ScoreImages", "Analyze", "Report"),
    "run",
)


def run(command: Command) -> None:
    """Do what the command says."""
    name = type(command).__name__
    getattr(import_module(_HOMES[name]), _FUNCTIONS.get(name, name.lower()))(command)

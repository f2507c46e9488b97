"""The commands, one module each, for Python and for the command line.

Programs call the function that has the command's name; the command line calls `run(command)`.
"""

from importlib import import_module

from openunite.commands import Command
from openunite.training.collapse import CollapseError

# Errors that users can cause and fix; any other error is a bug and is shown with its traceback.
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
    "Demo": "openunite.verbs.demo",
}

# Modules whose entry point is `run`, because the function with the command's name is for Python.
_FUNCTIONS = dict.fromkeys(
    ("Train", "Sample", "Reconstruct", "Encode", "Evaluate", "ScoreImages", "Analyze", "Report")
    + ("Demo",),
    "run",
)


def run(command: Command) -> None:
    """Run a command of the command line."""
    name = type(command).__name__
    getattr(import_module(_HOMES[name]), _FUNCTIONS.get(name, name.lower()))(command)

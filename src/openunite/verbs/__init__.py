"""The commands, one module each, for Python and for the command line.

Programs call the function that has the command's name; the command line calls `run(command)`.
"""

from openunite.catalog import load
from openunite.commands import Command
from openunite.training.collapse import CollapseError

# Errors that users can cause and fix; any other error is a bug and is shown with its traceback.
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError, CollapseError)

# The function that runs each command; `run`, where the one with the command's name is for Python.
_FUNCTIONS = {
    "Train": "openunite.verbs.train:run",
    "Sample": "openunite.verbs.sample:run",
    "Reconstruct": "openunite.verbs.reconstruct:run",
    "Encode": "openunite.verbs.encode:run",
    "Evaluate": "openunite.verbs.evaluate:run",
    "Score": "openunite.verbs.score:score",
    "ScoreImages": "openunite.verbs.score_images:run",
    "Sweep": "openunite.modalities.image.sweep:sweep",
    "Analyze": "openunite.verbs.analyze:run",
    "Report": "openunite.reporting.build:run",
    "Convert": "openunite.verbs.convert:convert",
    "Info": "openunite.verbs.info:info",
    "Prepare": "openunite.verbs.prepare:prepare",
    "Finetune": "openunite.verbs.finetune:finetune",
    "Study": "openunite.study.run:study",
    "Demo": "openunite.verbs.demo:run",
}


def run(command: Command) -> None:
    """Run a command of the command line."""
    load(_FUNCTIONS[type(command).__name__])(command)

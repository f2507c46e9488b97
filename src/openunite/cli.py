"""The command line: `openunite train | sample | evaluate | ...`.

Nothing heavy is imported until a command has been understood; its work is in `openunite.verbs`.
"""

import os
import sys
from importlib import import_module
from typing import Annotated, Union

import tyro
from tyro.conf import OmitArgPrefixes, subcommand

from openunite.commands import COMMANDS, Command, Score, ScoreImages
from openunite.progress import showing
from openunite.texts import printable


def parse(arguments: list[str] | None = None) -> Command:
    """The command line as a dataclass; exits with 2 and the nearest option on a mistake."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["evaluate"] and given[1:2] in (["molecules"], ["crystals"]):
        # Files, not a model: options of their own.
        return tyro.cli(Score, prog="openunite evaluate", args=given[1:])
    if given[:2] == ["evaluate", "images"]:
        return tyro.cli(ScoreImages, prog="openunite evaluate images", args=given[2:])
    kinds = tuple(
        Annotated[kind, subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items()
    )
    return tyro.cli(
        OmitArgPrefixes[Union[kinds]],  # type: ignore[valid-type, misc]  # noqa: UP007
        prog="openunite",
        description="One network that tokenizes and generates, trained in one stage.",
        args=given,
    )


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A mistake of the user is one sentence on stderr and exit status 2."""
    command = parse(arguments)
    name = (
        "evaluate" if isinstance(command, Score | ScoreImages) else type(command).__name__.lower()
    )
    verbs = import_module("openunite.verbs")
    try:
        with showing():
            verbs.run(command)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough: `openunite info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except verbs.USER_ERRORS as error:
        message = printable(str(error), keep="\n")
        print(f"openunite {name}: {message}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()

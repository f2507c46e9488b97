"""The command line: `openunite train | sample | evaluate | ...`.

Nothing heavy is imported until a command has been understood; its work is in `openunite.verbs`.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Annotated, NoReturn, Union

import tyro
from tyro.conf import OmitArgPrefixes, subcommand

from openunite.commands import COMMANDS, Command, Score
from openunite.progress import showing
from openunite.texts import printable


def parse(arguments: list[str] | None = None) -> Command:
    """The command line as a dataclass; exits with 2 and the nearest option on a mistake."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["evaluate"] and given[1:2] in (["molecules"], ["crystals"]):
        # Files, not a model: options of their own.
        return tyro.cli(Score, prog="openunite evaluate", args=given[1:])
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
    """Entry point. A mistake of the user is one sentence on stderr and exit status 2.

    Ctrl-C is one line and status 130, SIGTERM the same and 143; a reader of the output who has seen
    enough (`| head`) is no news.
    """
    name = (sys.argv[1:] if arguments is None else arguments)[:1]
    called = f"openunite {printable(name[0])}" if name and name[0] in COMMANDS else "openunite"
    try:
        with _ended_by_sigterm():
            _run(parse(arguments))
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # what they still hold has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(1)
    except Terminated:
        _leave(143, f"{called}: ended by SIGTERM")
    except KeyboardInterrupt:
        _leave(130, f"{called}: stopped by Ctrl-C")
    except Exception as error:
        if not isinstance(error, import_module("openunite.verbs").USER_ERRORS):
            raise
        _leave(2, called + ": " + printable(str(error), keep="\n"))


class Terminated(KeyboardInterrupt):
    """SIGTERM, which unwinds what it meets as Ctrl-C does, so that no half-written file stays."""


def _run(command: Command) -> None:
    with showing():
        import_module("openunite.verbs").run(command)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what runs inside, which may have a better answer, as `train` has.

    What is printed is sent before the end, so that a closed pipe is met where it is expected.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if main_thread else None
    try:
        yield
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)
        sys.stdout.flush()


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _leave(status: int, message: str) -> NoReturn:
    with suppress(BrokenPipeError):
        print(message, file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()

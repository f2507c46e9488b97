"""The command line: `openunite train | sample | evaluate | ...`.

Nothing heavy is imported until a command has been understood; its work is in `openunite.verbs`.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from difflib import get_close_matches
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn, Union

import tyro
from tyro.conf import subcommand

from openunite import __version__
from openunite.clock import counting
from openunite.commands import COMMANDS, MOVED, Command, Score, ScoreImages, Train
from openunite.help import describe_options, help_of, overview, page
from openunite.progress import showing
from openunite.texts import printable


def parse(arguments: list[str] | None = None) -> Command:
    """The command line as a dataclass; exits with 2 and the nearest option on a mistake."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["evaluate"] and _asks_for_files(given[1:]):
        if given[1] == "images":
            return _parse(ScoreImages, "evaluate images", given[2:])
        return _parse(Score, "evaluate", given[1:])
    if given and given[0] in COMMANDS:
        return _parse(COMMANDS[given[0]], given[0], given[1:])
    if given[:1] in ([], ["-h"], ["--help"]):
        print(overview(COMMANDS))
        sys.exit(0 if given else 2)
    if given[0] == "--version":
        print(f"openunite {__version__}")
        sys.exit(0)
    if not given[0].startswith("-"):
        near = get_close_matches(given[0], COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "openunite --help lists the commands"
        print(f"openunite: there is no command {printable(given[0])!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    kinds = tuple(
        Annotated[kind, subcommand(name, prefix_name=False)] for name, kind in COMMANDS.items()
    )
    return tyro.cli(Union[kinds], prog="openunite", args=given)  # type: ignore[call-overload]  # noqa: UP007


def _asks_for_files(given: list[str]) -> bool:
    """Whether `evaluate` gets files of a kind of data, and not a run that has its name."""
    if given[:1] not in (["images"], ["molecules"], ["crystals"]):
        return False
    return "--reference" in given or not Path(given[0], "config.yaml").is_file()


def _parse(kind: type[Command], name: str, given: list[str]) -> Command:
    """One command; its help says what it does, then the options, then commands to copy."""
    if kind is Train:
        given = _gathered(given)
    asked = bool({"-h", "--help"} & set(given))
    printed = TextIOWrapper(BytesIO(), encoding=sys.stdout.encoding)
    if asked:
        describe_options(kind)
    try:
        with redirect_stdout(printed) if asked else nullcontext():
            return tyro.cli(kind, prog=f"openunite {name}", args=given, description="")
    except SystemExit:
        printed.seek(0)
        if options := printed.read():
            print(page(help_of(kind), options))
        raise


def _gathered(given: list[str]) -> list[str]:
    """Arguments of `train` with the values of every --set behind a single one, at the end.

    Exits with 2 for an option that has become a field of the settings.
    """
    kept, assigned = list[str](), list[str]()
    target = kept
    for place, argument in enumerate(given):
        option, separator, value = argument.partition("=")
        if option.startswith("--"):
            name = option[2:].replace("_", "-")
            if name.removeprefix("no-") in MOVED:
                _refuse(name, value if separator else "", given[place + 1 :])
            target = assigned if name == "set" else kept
            if name == "set":
                assigned += [value] if separator else []
                continue
        target.append(argument)
    return [*kept, *(["--set", *assigned] if assigned else [])]


def _refuse(name: str, value: str, rest: list[str]) -> NoReturn:
    """Say how a field of the settings is set that had an option of its own."""
    fields = MOVED[name.removeprefix("no-")]
    if name.removeprefix("no-") == "flip":
        value = "false" if name.startswith("no-") else "true"
    following = next((i for i, x in enumerate(rest) if x.startswith("--")), len(rest))
    values = rest[: following if name == "trackers" else min(following, 1)]
    first, *others = fields
    assignments = [f"{first}={value or ','.join(values) or 'VALUE'}"]
    assignments += [f"{field}=VALUE" for field in others]
    message = f"--{name} is no option any more; write --set {' '.join(assignments)}"
    print(f"openunite train: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def main(arguments: list[str] | None = None) -> None:
    """Entry point. A mistake of the user is one sentence on stderr and exit status 2.

    Ctrl-C is one line and status 130, SIGTERM the same and 143; a reader of the output who has seen
    enough (`| head`) is no news.
    """
    name = (sys.argv[1:] if arguments is None else arguments)[:1]
    called = f"openunite {printable(name[0])}" if name and name[0] in COMMANDS else "openunite"
    try:
        with _ended_by_sigterm(), showing(), counting():
            command = parse(arguments)  # a mistake is told before anything heavy is imported
            import_module("openunite.verbs").run(command)
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

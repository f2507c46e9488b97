"""The help of a command, from the docstring of its dataclass, in lines of at most 80 columns."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from inspect import cleandoc
from textwrap import fill, wrap
from types import MappingProxyType

import docstring_parser

WIDTH = 80


@dataclass(frozen=True)
class Help:
    """What a command does in one sentence and in full, and commands to copy."""

    title: str
    about: str
    examples: str


def help_of(kind: type) -> Help:
    """The help in the docstring: paragraphs, then examples, the indented lines."""
    paragraphs, examples = list[str](), list[str]()
    for part in cleandoc(kind.__doc__ or "").split("\n\n"):
        indented = [line.strip() for line in part.splitlines() if line.startswith(" ")]
        examples += indented
        paragraphs += [] if indented else [part]
    lines = ["Commands to copy:", *map(_example, examples)]
    return Help(paragraphs[0], "\n\n".join(fill(p, WIDTH) for p in paragraphs), "\n".join(lines))


def page(text: Help, options: str) -> str:
    """The help of one command around usage and options, as tyro prints them."""
    usage, _, boxes = options.strip().partition("\n")
    usage = fill(usage, WIDTH, subsequent_indent="       ", break_on_hyphens=False)
    return f"{text.about}\n\n{usage}\n{boxes}\n{text.examples}"


def overview(commands: Mapping[str, type]) -> str:
    """What `openunite --help` prints: all commands, each in its sentence."""
    width = max(map(len, commands)) + 4
    lines = ["usage: openunite COMMAND ...", "       openunite COMMAND --help", ""]
    lines += ["One network that tokenizes and generates, trained in one stage.", ""]
    for name, kind in commands.items():
        indent = " " * width
        lines.append(
            fill(
                help_of(kind).title,
                WIDTH,
                initial_indent=f"  {name:<{width - 2}}",
                subsequent_indent=indent,
            )
        )
    return "\n".join(lines)


def _example(command: str) -> str:
    """A command, continued on further lines as a shell takes it."""
    lines = wrap(command, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return "  " + " \\\n    ".join(lines)


def describe_options(kind: type) -> None:
    """Give tyro the strings below the fields as it wraps them: without line breaks."""
    texts = {
        doc.arg_name: doc.description for doc in docstring_parser.parse_from_object(kind).params
    }
    for field in fields(kind):
        text = " ".join((texts.get(field.name) or "").split())
        field.metadata = MappingProxyType({**field.metadata, "help": text})

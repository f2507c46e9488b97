"""The command that shows models to people."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from openunite.commands.options import Command, OptionalInt


@dataclass(frozen=True)
class Demo(Command):
    """Serve a web page on which anybody can try models: sample, reconstruct, look inside.

    Without SOURCES it shows the models that come with the package. The page needs no network.

    Commands to copy:
      openunite demo
      openunite demo runs/photos runs/quickstart-molecules
    """

    sources: Annotated[
        Positional[tuple[str, ...]], arg(metavar="[SOURCES ...]", help_behavior_hint="")
    ] = ()
    """Runs, pipeline folders, packaged names or hub ids."""
    host: str = "127.0.0.1"
    """Address to serve at; any but this one lets other machines use the models."""
    port: OptionalInt = None
    """Port; default 7860, or the next free one."""

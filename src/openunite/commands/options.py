"""Types of options that several commands have, and what all commands are."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

OptionalInt = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")]
OptionalStr = Annotated[str | None, arg(metavar="STR", help_behavior_hint="")]


@dataclass(frozen=True)
class Command:
    """What was asked on the command line."""

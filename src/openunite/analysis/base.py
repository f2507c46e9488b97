"""The interface of an analysis: numbers, one figure, one sentence on how to read them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(ABC):
    """The result of an analysis. Subclasses are frozen dataclasses computed from tensors."""

    name: ClassVar[str]  # names the file of the figure and the entry in analysis.json
    title: ClassVar[str]
    reading: ClassVar[str]  # one sentence on what to look for
    chart: ClassVar[bool] = True  # the figure has lines or bars; False for pictures

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Plain values for analysis.json; tables leave out lists and dictionaries."""

    @abstractmethod
    def figure(self) -> "Figure":
        """The matplotlib figure."""


@dataclass(frozen=True)
class Found:
    """An analysis under the name of its files; `of` names the run where that is the other one."""

    result: Analysis
    suffix: str = ""
    of: str = ""


@dataclass(frozen=True)
class Analyses:
    """Stages by name, in their order, and the titles of what is left out, with reasons."""

    stages: Mapping[str, Callable[[], Iterable[Found]]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

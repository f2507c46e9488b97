"""The interface of an analysis: numbers, one figure, and a text on how to read them."""

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
    reading: ClassVar[str]  # explains what to look for
    chart: ClassVar[bool] = True  # the figure has lines or bars; False for pictures

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Plain values for analysis.json; tables leave out lists and dictionaries."""

    @abstractmethod
    def figure(self) -> "Figure":
        """The matplotlib figure."""


@dataclass(frozen=True)
class Found:
    """A result and the suffix of its file names; `of` names a run other than the analyzed one."""

    result: Analysis
    suffix: str = ""
    of: str = ""


@dataclass(frozen=True)
class Analyses:
    """Functions that compute results, by stage name, and reasons for missing ones, by title."""

    stages: Mapping[str, Callable[[], Iterable[Found]]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)

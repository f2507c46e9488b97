"""What all analyses have in common: numbers, one figure, one sentence on how to read them."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Analysis(ABC):
    """A result. Subclasses are frozen dataclasses, made by a function of tensors."""

    name: ClassVar[str]  # of its file and of its entry in analysis.json
    title: ClassVar[str]
    reading: ClassVar[str]  # one sentence: what to look for
    chart: ClassVar[bool] = True  # lines and bars; False for pictures

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """Plain values for analysis.json; those that are no list or dictionary go into tables."""

    @abstractmethod
    def figure(self) -> "Figure":
        """A matplotlib figure."""

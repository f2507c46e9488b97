"""Feature extractors by name, those of installed packages included.

An entry of the entry-point group "openunite.extractors" is a function of a path to weights (or
None) that returns an `Extractor`.
"""

from pathlib import Path

from openunite.evaluation.images.features.base import Extractor
from openunite.registry import Registry

_HERE = "openunite.evaluation.images.features"
EXTRACTORS = Registry(
    "openunite.extractors",
    {
        "fashion": f"{_HERE}.fashion:load_fashion",
        "efficientnet-lite0": f"{_HERE}.efficientnet:load_efficientnet",
        "inception": f"{_HERE}.inception:load_inception",
        "dinov2": f"{_HERE}.dinov2:load_dinov2",
    },
)


def load_extractor(name: str, weights: str | Path | None = None) -> Extractor:
    """The extractor called `name`, with weights from a path, a cache or the web.

    ValueError for an unknown name; ImportError or FileNotFoundError if weights are missing.
    """
    extractor: Extractor = EXTRACTORS.get(name)(weights)
    return extractor


def is_embedded(data: str) -> bool:
    """True for the images in the package, whose samples `train` itself evaluates by features."""
    return data == "fashion-mnist-mini"


def extractor_for(data: str) -> str:
    """The default extractor for models of this data; it needs no download."""
    return "fashion" if is_embedded(data) else "efficientnet-lite0"

"""Feature extractors behind one small interface; `load_extractor` finds one by name."""

from importlib import import_module
from pathlib import Path

from openunite.evaluation.images.features.base import Extractor

_HOMES = {
    "fashion": ("openunite.evaluation.images.features.fashion", "load_fashion"),
    "efficientnet-lite0": (
        "openunite.evaluation.images.features.efficientnet",
        "load_efficientnet",
    ),
    "inception": ("openunite.evaluation.images.features.inception", "load_inception"),
    "dinov2": ("openunite.evaluation.images.features.dinov2", "load_dinov2"),
}
EXTRACTORS = tuple(_HOMES)


def load_extractor(name: str, weights: str | Path | None = None) -> Extractor:
    """The extractor called `name`, with weights from a path, a cache or the web.

    ValueError for an unknown name; ImportError or FileNotFoundError where weights cannot be had.
    """
    if name not in _HOMES:
        raise ValueError(f"unknown extractor {name!r}, expected one of {', '.join(EXTRACTORS)}")
    module, function = _HOMES[name]
    extractor: Extractor = getattr(import_module(module), function)(weights)
    return extractor

"""The folder for cached data, downloads and results."""

import os
from pathlib import Path


def cache_folder(given: str | Path | None = None) -> Path:
    """`given`, or by default openunite in $XDG_CACHE_HOME (if not set, in ~/.cache)."""
    if given is not None:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openunite"

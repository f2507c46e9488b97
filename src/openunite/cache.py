"""Where what was read, fetched or computed is remembered."""

import os
from pathlib import Path


def cache_folder(given: str | Path | None = None) -> Path:
    """`given`, else ~/.cache/openunite (below XDG_CACHE_HOME where that is set)."""
    if given is not None:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openunite"

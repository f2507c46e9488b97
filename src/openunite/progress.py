"""What a person sees while something works: lines and bars, shown by commands, not by functions.

The command line switches both on. A Python program sees them only inside `showing()`, or where a
function has an argument that asks for them.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def showing(shown: bool = True) -> Iterator[None]:
    """Lines and bars appear (or not) inside the block."""
    token = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def is_shown() -> bool:
    """Whether lines and bars appear now."""
    return _SHOWN.get()


def say(*parts: object, end: str = "\n", err: bool = False) -> None:
    """Print a line for the person at work, to stdout or (`err`) to stderr."""
    if _SHOWN.get():
        print(*parts, end=end, file=sys.stderr if err else sys.stdout, flush=err)


def bar(
    items: Iterable[Any] | None = None, desc: str = "", total: float | None = None, **options: Any
) -> Any:
    """A tqdm bar (a widget in a notebook); `options` are tqdm's."""
    if not _SHOWN.get():
        options["disable"] = True
    return _tqdm()(items, desc=desc, total=total, **options)


def _tqdm() -> Any:
    """The kind of bar that fits: tqdm's widget needs ipywidgets and warns without them."""
    if "ipykernel" in sys.modules and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm

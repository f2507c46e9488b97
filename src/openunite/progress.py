"""Printed messages and progress bars, which the command line shows and Python functions do not.

A Python program sees them only inside `showing()`, or if it passes an argument such as `progress`.
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
    """Show (or hide) messages and bars inside a `with` block."""
    token = _SHOWN.set(shown)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def is_shown() -> bool:
    """Whether messages and bars are shown now."""
    return _SHOWN.get()


def say(*parts: object, end: str = "\n", err: bool = False) -> None:
    """Print a message to stdout, or to stderr with `err`, if messages are shown."""
    if _SHOWN.get():
        print(*parts, end=end, file=sys.stderr if err else sys.stdout, flush=err)


def bar(
    items: Iterable[Any] | None = None, desc: str = "", total: float | None = None, **options: Any
) -> Any:
    """A tqdm bar (a widget in notebooks), hidden unless bars are shown; `options` are tqdm's."""
    if not _SHOWN.get():
        options["disable"] = True
    return _tqdm()(items, desc=desc, total=total, **options)


def _tqdm() -> Any:
    """The tqdm class to use: the notebook widget only if ipywidgets, which it needs, is there."""
    if "ipykernel" in sys.modules and find_spec("ipywidgets") is not None:
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return tqdm

"""What users of diffusers are used to, in terms of this package."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from openunite.flow.solvers import Callback

StepEnd = Callable[[Any, int, float, dict[str, Tensor]], Any]


def watched(pipeline: Any, callback: Callback | None, step_end: StepEnd | None) -> Callback | None:
    """One callback for both, `callback(evaluations, t, z)` and diffusers' `callback_on_step_end`.

    The latter is called as f(pipeline, step, t, {"latents": z}), with steps from 0. ValueError if
    it returns other latents: steps can be watched and not changed.
    """
    if step_end is None:
        return callback
    step = 0

    def both(evaluations: int, t: float, z: Tensor) -> None:
        nonlocal step
        if callback is not None:
            callback(evaluations, t, z)
        found = step_end(pipeline, step, t, {"latents": z})
        step += 1
        if isinstance(found, dict) and found.get("latents", z) is not z:
            raise ValueError(
                "callback_on_step_end returned other latents, but it can only watch; return what "
                "it was given, or nothing"
            )

    return both


@contextmanager
def without_cast_warning() -> Iterator[None]:
    """Inside, diffusers does not warn that no module is to be kept in float32 (as of 0.42)."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before

"""The deadline of a command: looks at its run now and then, and plans it anew."""

from collections.abc import Callable
from dataclasses import dataclass

from accelerate.utils import broadcast_object_list

from openunite import clock
from openunite.training.config import RunConfig

MIN_STEPS = 100  # fewer steps teach nothing


@dataclass
class Deadline:
    """The end of a command, and when its run is looked at next.

    `reserve` is the processor time of what follows training. `began` is the time of `clock.now`
    when the command began, and `spent` the seconds of earlier commands on this run. `record` is
    called with the settings after each new plan. Speed is measured between two looks: with
    previews, checkpoints and what else the machine has to do.
    """

    seconds: float
    reserve: float
    began: float
    record: Callable[[RunConfig], None] = lambda config: None
    spent: float = 0.0
    look: int = 0  # the step after which the run is looked at next
    _since: tuple[int, float, float] = (0, 0.0, 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds that all commands on this run have taken so far."""
        return self.spent + clock.now() - self.began

    def start(self, step: int, config: RunConfig) -> None:
        """Begin to measure at `step`: the first look is soon, since speed was only tried out.

        It comes after the last plan, which a run that was stopped before it keeps.
        """
        self._since = step, self.elapsed, clock.processor()
        last = config.pace.plans[-1][0] if config.pace else 0
        self.look = max(step + max(10, (config.steps - step) // 20), last + 1)

    def plan(self, step: int, config: RunConfig) -> RunConfig:
        """The settings after `step`; at a look, perhaps with a new plan of the main process."""
        if not self.look <= step < config.steps:
            return config
        planned = [self.fitting(step, config.steps)]
        broadcast_object_list(planned)
        if planned[0] != config.steps:
            config = config.planned_anew(step, planned[0])
            self.record(config)
        self.look = step + max(10, (config.steps - step) // 4)
        return config

    def fitting(self, step: int, steps: int) -> int:
        """How many steps in all fit into the time that is left; `steps`, if those nearly do."""
        begun, then, worked = self._since
        self._since = step, self.elapsed, clock.processor()
        taken = max(1e-9, self.elapsed - then)
        reserve = self.reserve * taken / max(1e-9, clock.processor() - worked)
        left = self.seconds - reserve - self.elapsed
        found = max(MIN_STEPS, step + 1, step + int(left * (step - begun) / taken))
        return steps if abs(found - steps) <= 0.01 * steps else found

"""A run with a deadline: its plan, what is planned anew on the way, and how its schedules follow.

The settings of a run hold every plan, so that a resumed or repeated run takes the same steps with
the same learning rates and weights, however fast its machine is.
"""

from dataclasses import dataclass

from openunite import clock

MIN_STEPS = 100  # fewer steps teach nothing


@dataclass(frozen=True)
class Pace:
    """The minutes of a command and its plans, pairs (step, steps in all); the first has step 0.

    Schedules are those of the first plan. Each later plan, made at its step, stretches or shortens
    what is left of them, so that they stay continuous and end with the run.
    """

    minutes: float
    plans: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        starts, ends = [at for at, _ in self.plans], [steps for _, steps in self.plans]
        rising = all(a < b < end for a, b, end in zip(starts, starts[1:], ends, strict=False))
        if not self.minutes > 0 or starts[:1] != [0] or not rising or starts[-1] >= ends[-1]:
            raise ValueError(
                "pace must have minutes above 0 and plans (step, steps), the first at step 0 and "
                f"each made before the end of the one before it, got {self}; remove it"
            )

    @property
    def planned(self) -> int:
        """The number of steps of the first plan, in which schedules are written."""
        return self.plans[0][1]

    @property
    def steps(self) -> int:
        """The number of steps of the last plan."""
        return self.plans[-1][1]

    def place(self, step: int) -> float:
        """The step of the first plan that stands where `step` does."""
        place, begun, end = 0.0, 0, self.planned
        for at, steps in self.plans[1:]:
            if step <= at:
                break
            place += (at - begun) * (self.planned - place) / (end - begun)
            begun, end = at, steps
        return place + (step - begun) * (self.planned - place) / (end - begun)

    def anew(self, step: int, steps: int) -> "Pace":
        """The pace with a plan for `steps` in all, made at `step`."""
        return Pace(self.minutes, (*self.plans, (step, steps)))


@dataclass
class Deadline:
    """The end of a command, and when its run is looked at and planned anew.

    `reserve` seconds are kept for what follows training. `began` is the time of `clock.now` when
    the command began, and `spent` the seconds of earlier commands on this run. Speed is measured
    between two looks: with previews, checkpoints and what else the machine has to do.
    """

    seconds: float
    reserve: float
    began: float
    spent: float = 0.0
    look: int = 0  # the step after which the run is looked at next
    _since: tuple[int, float] = (0, 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds that all commands on this run have taken so far."""
        return self.spent + clock.now() - self.began

    def start(self, step: int, pace: Pace) -> None:
        """Begin to measure at `step`: the first look is soon, since speed was only tried out.

        It comes after the last plan, which a run that was stopped before it keeps.
        """
        self._since = step, self.elapsed
        self.look = max(step + max(10, (pace.steps - step) // 20), pace.plans[-1][0] + 1)

    def steps_at(self, step: int, steps: int) -> int:
        """How many steps in all fit into the time that is left; `steps`, if those nearly do."""
        begun, then = self._since
        each = max(1e-9, (self.elapsed - then) / (step - begun))
        self._since = step, self.elapsed
        left = self.seconds - self.reserve - self.elapsed
        fitting = max(MIN_STEPS, step + 1, step + int(left / each))
        return steps if abs(fitting - steps) <= 0.01 * steps else fitting

    def wait(self, step: int, steps: int) -> None:
        """Look again after a quarter of the steps that are left, the same on all processes."""
        self.look = step + max(10, (steps - step) // 4)

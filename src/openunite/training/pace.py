"""The plans of a run with a deadline, and how its schedules follow from them.

The settings of a run hold every plan, so that a resumed or repeated run takes the same steps with
the same learning rates and weights, however fast its machine is.
"""

from dataclasses import dataclass


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

"""How latents are sampled, in one place: the settings, and the table of solvers. No torch here.

A new solver is one function in `solvers.py` (or in another package) and one row: a `Solver`, named
in `SOLVERS` or by an entry point of the group `openunite.solvers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from openunite.registry import Registry

MOST_STEPS = 10**6


@dataclass(frozen=True)
class Option:
    """A number that one solver takes: its default, its bounds, and what it means."""

    default: float
    low: float
    high: float
    words: str


@dataclass(frozen=True)
class Solver:
    """A row of the table.

    `function` is "module:name" of f(denoiser, noise, grid, *, noise_sampler, callback, **options).
    `evaluations(n)` is the number of calls of the denoiser in n steps; an adaptive solver chooses
    its own steps, has None there, and usually takes about `typical`. `words` are for people.
    """

    function: str
    evaluations: Callable[[int], int] | None
    words: str
    options: Mapping[str, Option] = field(default_factory=dict)
    typical: int = 0

    @property
    def adaptive(self) -> bool:
        """Whether the solver ignores the number of steps and the time shift."""
        return self.evaluations is None

    def cost(self, num_steps: int) -> int:
        """The (usual) number of calls of the denoiser: NFE."""
        return self.typical if self.evaluations is None else self.evaluations(num_steps)


_HERE = "openunite.flow.solvers:"
EULER = Solver(f"{_HERE}euler", lambda n: n, "order 1")
HEUN = Solver(f"{_HERE}heun", lambda n: 2 * n - 1, "order 2; its last step is Euler's")
MULTISTEP = Solver(f"{_HERE}multistep", lambda n: n, "order 2, from the prediction before")
SDE = Solver(
    f"{_HERE}sde",
    lambda n: n,
    "renews a part of the noise at each step",
    {
        "eta": Option(0.0, 0.0, 1.0, "part of the noise that is renewed; 0 is Euler's method"),
        "temperature": Option(1.0, 0.0, 10.0, "scale of new noise; below 1: likelier, less varied"),
    },
)
DOPRI5 = Solver(f"{_HERE}dopri5", None, "the paper's adaptive protocol", typical=90)
SOLVERS = Registry(
    "openunite.solvers",
    {
        name: f"{__name__}:{name.upper()}"
        for name in ("euler", "heun", "multistep", "sde", "dopri5")
    },
)


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn; runs, pipelines and protocol cards hold it whole.

    The default has the Frechet distance of 100 evaluations of Heun with six steps
    (docs/PERFORMANCE.md), and takes eight. `time_shift` below 1 spends more steps near noise.
    `guidance_scale` 1 is no guidance; guidance acts for t strictly inside `guidance_interval`.
    `options` are those of the solver, see `SOLVERS`. ValueError for what no sampler can do.
    """

    solver: str = "multistep"
    num_inference_steps: int = 8
    time_shift: float = 0.5
    guidance_scale: float = 2.0
    guidance_interval: tuple[float, float] = (0.1, 1.0)
    options: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = self.row.options
        if not isinstance(self.options, Mapping):
            raise ValueError(f"options of a solver must be a mapping, got {self.options!r:.100}")
        if unknown := sorted(set(self.options) - set(known)):
            has = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"solver {self.solver!r} knows no option {unknown[0]!r}; {has}")
        for name, value in self.options.items():
            _check(name, value, known[name].low, known[name].high)
        # Equal settings compare equal, whether a default was written out or not.
        changed = {n: float(v) for n, v in self.options.items() if v != known[n].default}
        object.__setattr__(self, "options", changed)
        steps = self.num_inference_steps
        if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
            raise ValueError(
                f"num_inference_steps must be a whole number from 1 to {MOST_STEPS}, got "
                f"{steps!r:.100}"
            )
        _check("time_shift", self.time_shift, 1e-6, 1e6)
        _check("guidance_scale", self.guidance_scale, -1e6, 1e6)
        ends = self.guidance_interval
        pair = isinstance(ends, tuple) and len(ends) == 2
        if not pair or not all(type(end) in (int, float) for end in ends):
            raise ValueError(f"guidance_interval must be two numbers, got {ends!r:.100}")
        if not 0.0 <= ends[0] <= ends[1] <= 1.0:
            raise ValueError(
                "guidance_interval must satisfy 0 <= low <= high <= 1, got "
                f"{tuple(ends)}; the paper uses (0.1, 1.0)"
            )

    @property
    def row(self) -> Solver:
        """The solver's row of the table. ValueError for a solver that nobody knows."""
        if not isinstance(self.solver, str):
            raise ValueError(f"solver must be a name, got {self.solver!r:.100}")
        found: Solver = SOLVERS.get(self.solver)
        return found

    def option(self, name: str) -> float:
        """The value of an option of the solver, its default if it is not set."""
        return self.options.get(name, self.row.options[name].default)

    def change(self, **given: Any) -> "Sampling":
        """These settings with some replaced; None keeps the present value.

        Options of the solver go by their own names (`eta=0.5`); another solver starts from its
        defaults. ValueError for a name that is no setting, with the nearest one.
        """
        given = {name: _plain(value) for name, value in given.items() if value is not None}
        own = {f.name for f in fields(self)}
        solver = given.get("solver", self.solver)
        options = dict(self.options) if solver == self.solver else {}
        options |= given.pop("options", {})
        known = SOLVERS.get(solver).options
        for name in [name for name in given if name not in own]:
            if name not in known:
                everything = sorted(own - {"options"}) + list(known)
                nearest = get_close_matches(name, everything, 1, cutoff=0.0)[0]
                raise ValueError(
                    f"unknown sampling setting {name!r}, expected some of {', '.join(everything)}; "
                    f"the nearest is {nearest!r}"
                )
            options[name] = given.pop(name)
        if isinstance(ends := given.get("guidance_interval"), list | tuple):
            given["guidance_interval"] = tuple(map(_plain, ends))
        return replace(self, **given, options=options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as files hold them."""
        return asdict(self) | {"guidance_interval": list(self.guidance_interval)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sampling":
        """The inverse of `to_dict`; also reads format 1, where options stood beside the rest."""
        if not isinstance(values, Mapping):
            raise ValueError(f"sampling must be a mapping of settings, got {values!r:.100}")
        found, known = upgraded(values), {f.name for f in fields(cls)}
        if unknown := sorted(set(found) - known):
            raise ValueError(f"unknown sampling setting {unknown[0]!r:.100}, expected {known}")
        return cls(**found)


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling settings of format 1 (eta and temperature for every solver) in today's form."""
    found = dict(values)
    old = {name: found.pop(name) for name in ("eta", "temperature") if name in found}
    if found.get("solver") == "sde" and old:
        found["options"] = old | dict(found.get("options", {}))
    if isinstance(found.get("guidance_interval"), list):
        found["guidance_interval"] = tuple(found["guidance_interval"])
    return found


def _plain(value: Any) -> Any:
    """A number of NumPy or PyTorch as Python's own."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value


def _check(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # NaN lies between no two numbers
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.100}")

"""The sampling settings and the table of solvers. No torch here.

To add a solver, write its function in `solvers.py` (or in another package) and a `Solver` row, and
name the row in `SOLVERS` or by an entry point of the group `openunite.solvers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from openunite.registry import Registry
from openunite.settings import expected

MOST_STEPS = 10**6


@dataclass(frozen=True)
class Option:
    """A numeric option of a solver: default, bounds and a description."""

    default: float
    low: float
    high: float
    words: str


@dataclass(frozen=True)
class Solver:
    """A row of the table.

    `function` is "module:name" of f(denoiser, noise, grid, *, noise_sampler, callback, **options).
    `evaluations(n)` is the number of denoiser calls (NFE) in n steps; it is None for an adaptive
    solver, which chooses its own steps and usually needs `typical` calls. `words` describe it.
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
        """The number of denoiser calls (NFE); for an adaptive solver, the usual number."""
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
    """Sampling settings, as stored in runs, pipelines and protocol cards.

    With six steps the default solver already reaches the Frechet distance of Heun with 99 NFE
    (docs/PERFORMANCE.md); the default is eight. `time_shift` below 1 spends more steps near noise.
    `guidance_scale` 1 means no guidance; guidance acts for t strictly inside `guidance_interval`.
    `options` are those of the solver, see `SOLVERS`. Raises ValueError for impossible settings.
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
        """The solver's row of the table. Raises ValueError for an unknown solver."""
        if not isinstance(self.solver, str):
            raise ValueError(f"solver must be a name, got {self.solver!r:.100}")
        found: Solver = SOLVERS.get(self.solver)
        return found

    def option(self, name: str) -> float:
        """The value of a solver option, or its default."""
        return self.options.get(name, self.row.options[name].default)

    def change(self, **given: Any) -> "Sampling":
        """A copy with some settings replaced; None keeps the current value.

        Solver options are given by their own names (`eta=0.5`); a change of the solver resets
        them. Raises ValueError for an unknown name, with the nearest known one.
        """
        given = {name: _plain(value) for name, value in given.items() if value is not None}
        own = {f.name for f in fields(self)}
        solver = given.get("solver", self.solver)
        options = dict(self.options) if solver == self.solver else {}
        options |= given.pop("options", {})
        known = SOLVERS.get(solver).options
        for name in [name for name in given if name not in own]:
            if name not in known:
                names = dict.fromkeys([*sorted(own - {"options"}), *known])
                raise ValueError(f"unknown sampling setting {name!r}, {expected(name, names)}")
            options[name] = given.pop(name)
        if isinstance(ends := given.get("guidance_interval"), list | tuple):
            given["guidance_interval"] = tuple(map(_plain, ends))
        return replace(self, **given, options=options)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values for JSON and YAML."""
        return asdict(self) | {"guidance_interval": list(self.guidance_interval)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Sampling":
        """The inverse of `to_dict`; also reads format 1, whose options were not in a section.

        Raises ValueError for unknown or impossible settings.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"sampling must be a mapping of settings, got {values!r:.100}")
        found, known = upgraded(values), {f.name for f in fields(cls)}
        if unknown := sorted(set(found) - known):
            raise ValueError(f"unknown sampling setting {unknown[0]!r:.100}, expected {known}")
        return cls(**found)


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert settings of format 1 (eta and temperature for every solver) to the current format."""
    found = dict(values)
    old = {name: found.pop(name) for name in ("eta", "temperature") if name in found}
    if found.get("solver") == "sde" and old:
        found["options"] = old | dict(found.get("options", {}))
    if isinstance(found.get("guidance_interval"), list):
        found["guidance_interval"] = tuple(found["guidance_interval"])
    return found


def _plain(value: Any) -> Any:
    """Convert a NumPy or PyTorch scalar to a Python number."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value


def _check(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # also true for NaN
        raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.100}")

"""What evidence adds to a training step: `OMP_NUM_THREADS=1 python -m benchmarks.evidence_cost`.

The quickstart's step as it is, with a share of partial draws, with a number, and with captions of
12 words, in turn. Writes benchmarks/results/evidence_cost.json and .md.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import RandomImages, Step
from benchmarks.machine import describe, save
from benchmarks.measure import alternate
from openunite.catalog import get_recipe
from openunite.conditions.base import fit, parse
from openunite.data.conditions import ConditionedDataset, table
from openunite.training.build import build_models, build_objective
from openunite.training.config import RunConfig
from openunite.training.trainer import Trainer

WORDS = 12
_TEXT = " ".join(f"w{i}" for i in range(WORDS))
COLUMNS: dict[str, tuple[str, list[Any]]] = {
    "number": ("number", [0.0, 1.0]),
    "caption": ("text", [_TEXT, _TEXT]),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="fashion")
    parser.add_argument("--runs", type=int, default=20)
    given = parser.parse_args()
    config = get_recipe(given.recipe)()
    partial = replace(config, objective=replace(config.objective, partial_share=1 / 3))
    steps = {
        "as it is": step_of(replace(config, conditions={})),
        "a third of the draws sees a part": step_of(replace(partial, conditions={})),
        "a number (4 tokens)": step_of(config, "number"),
        f"captions of {WORDS} words": step_of(config, "caption"),
        "all of it": step_of(partial, "number", "caption"),
    }
    device = torch.device("cpu")
    timings = alternate(steps, device, runs=given.runs)
    base = timings["as it is"].median
    lines = ["| step | median, ms | of the first |", "|---|---|---|"]
    lines += [
        f"| {name} | {1e3 * t.median:.0f} | {t.median / base:.2f} |" for name, t in timings.items()
    ]
    result = {"machine": describe(device), "options": vars(given)}
    result["steps"] = {name: timing.as_dict() for name, timing in timings.items()}
    save("evidence_cost", result, [f"# The cost of evidence, recipe {given.recipe}", "", *lines])


def step_of(config: RunConfig, *names: str) -> Step:
    """The trainer's step with some conditions, which every sample has."""
    plain = {name: fit(name, *COLUMNS[name]) for name in names}
    config = replace(config, conditions={n: {**p, "column": n} for n, p in plain.items()})
    data, given = RandomImages(config), {}
    for name in names:
        row = parse(name, plain[name], COLUMNS[name][1][0])
        given[name] = table([row] * len(data))
    objective = build_objective(config, *build_models(config))
    folder = Path(tempfile.gettempdir())
    trainer = Trainer(objective, ConditionedDataset(data, given), config, folder)
    batches = iter(trainer.batches())
    return lambda: trainer.advance(batches)


if __name__ == "__main__":
    main()

"""Turn the pipeline of a finished run into packaged weights: `python -m tools.package_weights ...`.

    python -m tools.package_weights runs/quickstart fashion
    python -m tools.package_weights runs/quickstart-molecules molecules

The folder src/openunite/weights/NAME then holds the pipeline with float16 matrices, README.md (what
it is, its numbers, licences, limits), the protocol card and the settings of the run, and golden
values, by which `check` and the tests notice weights or code that give other samples.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from openunite.evaluation.card import load_card
from openunite.evaluation.measured import vocabulary
from openunite.files import atomic_folder, read_json, write_json, write_text
from openunite.pipelines.folder import PARTS, weights_of, write_manifest
from openunite.runs import Run, load_pipeline
from openunite.task import task_of
from openunite.training.config import load_config
from openunite.weights import HOME, TRAINING

MAX_BYTES = 4_000_000
GOLDEN = "golden"  # .json and .safetensors
LIMITS = {"latents": 5e-3, "images": 2.0, "numbers": 0.0, "positions": 0.05, "cells": 0.05}
ACCOUNTS = {
    "fashion-mnist-mini": "Fashion-MNIST-mini, the first 600 training images of each class of "
    "Fashion-MNIST, copyright (c) 2017 Zalando SE, MIT License",
    "qm9": "QM9 (R. Ramakrishnan and others, Scientific Data 1, 140022, 2014) as in the package "
    "qm9pack, MIT License",
    "quickstart-crystals": "JARVIS-DFT crystals as in the package jarvis-tools, MIT License, and "
    "AFLOW prototypes as in the package pymatgen, MIT License, with other elements in them",
}
_SEEDS = range(64)  # the golden sample is the first of these with finite numbers


def package(source: str, name: str, home: Path = HOME, account: str = "") -> Path:
    """Write the folder `home`/`name` and return it. ValueError for a run that cannot be packaged.

    `account` says what the training data are and their licence, if `ACCOUNTS` does not.
    """
    run = Run.of(source)
    if not run.is_finished:
        raise ValueError(f"{source} is not finished; train it to its end first")
    account = account or ACCOUNTS.get(run.config.data.source, "")
    if not account:
        raise ValueError(
            f"the licence of {run.config.data.source} is not known; say it with --data-licence"
        )
    final = home / name
    shutil.rmtree(final, ignore_errors=True)
    with atomic_folder(final) as folder:
        run.pipeline.save_pretrained(folder)
        _halve(folder)
        shutil.copy(run.folder / "card.json", folder / "card.json")
        shutil.copy(run.folder / "config.yaml", folder / TRAINING)
        write_text(folder / "README.md", read_me(run, name, account))
        _write_golden(folder)
        if (size := sum(p.stat().st_size for p in folder.rglob("*"))) > MAX_BYTES:
            raise ValueError(f"{name} takes {size:,} bytes, more than {MAX_BYTES:,}; train smaller")
    check(final)
    return final


def _halve(folder: Path) -> None:
    """Convert the matrices of a pipeline folder to float16; vectors are few and stay as they are.

    ValueError for a number that float16 cannot hold.
    """
    for file in (path for part in PARTS for path in weights_of(folder / part)):
        tensors = load_file(file)
        for key, value in tensors.items():
            if value.ndim > 1 and value.is_floating_point():
                tensors[key] = value.half()
                if not bool(tensors[key].isfinite().all()):
                    raise ValueError(f"{key} holds a number beyond the range of float16")
        save_file(tensors, file, {"format": "pt"})
    write_manifest(folder)


# ---- golden values --------------------------------------------------------------------------


def _write_golden(folder: Path) -> None:
    """Write the tensors of a sample and its latents, and what they were made from."""
    pipeline: Any = load_pipeline(folder)
    for seed in _SEEDS:
        tensors = _measure(pipeline, seed)
        if all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            break
    else:
        raise ValueError(f"none of {len(_SEEDS)} samples has finite numbers; train longer")
    save_file(tensors, folder / f"{GOLDEN}.safetensors")
    limits = {key: LIMITS[key] for key in tensors if key in LIMITS}
    write_json(folder / f"{GOLDEN}.json", {"seed": seed, "limits": limits})


def _measure(
    pipeline: Any, seed: int, stored: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The sample of a seed, and the latents of the stored sample (by default of this one)."""
    task = task_of(pipeline)
    label = 0 if pipeline.encoder.config.num_classes else None
    samples = list(pipeline.generate(label, seeds=[seed]))
    tensors = {k: v.contiguous() for k, v in task.pack(samples).items()}
    items = task.unpack(stored or tensors)
    finite = all(getattr(item, "is_finite", True) for item in items)
    latents = torch.tensor(task.latents(pipeline, items)["latents"] if finite else np.nan)
    return tensors | {"latents": latents}


def check(folder: Path) -> None:
    """Raise ValueError if a packaged pipeline gives another sample or other latents than it did."""
    about = read_json(folder / f"{GOLDEN}.json")
    expected = load_file(folder / f"{GOLDEN}.safetensors")
    stored = {key: value for key, value in expected.items() if key != "latents"}
    found = _measure(load_pipeline(folder), about["seed"], stored)
    for key, limit in about["limits"].items():
        if found[key].shape != expected[key].shape:
            raise ValueError(f"{folder.name}: {key} are {tuple(found[key].shape)} in shape")
        apart = found[key].double() - expected[key].double()
        if key == "positions" and bool(expected["periodic"].all()):
            cell = expected["cells"][0]
            steps = apart @ torch.linalg.inv(cell)
            apart = (steps - steps.round()) @ cell  # an atom may leave the cell at the other side
        if not float(apart.abs().max()) <= limit:
            raise ValueError(
                f"{folder.name}: {key} differ by {float(apart.abs().max()):.3g} from the golden "
                f"ones, at most {limit:g} is allowed"
            )


# ---- the model card -------------------------------------------------------------------------


def read_me(run: Run, name: str, account: str) -> str:
    """The model card: what it is, how to use it, data and licence, numbers, limits."""
    card, config = load_card(run.folder / "card.json"), run.config
    rows = vocabulary(card.kind)
    columns = [column for column in card.metrics if card.metrics[column]]
    names = dict.fromkeys(key for column in columns for key in card.metrics[column])
    table = [f"| metric | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for key in names:
        cells = [card.metrics[column].get(key) for column in columns]
        words = ["" if c is None else f"{rows[key].form.format(c.value)}" for c in cells]
        table.append(f"| {card.label(key)} | {' | '.join(words)} |")
    seconds = run.metrics.get("train_seconds")
    trained = f" in {float(seconds):,.0f} seconds" if seconds is not None else ""
    return f"""# {name}

A small UNITE model of {card.kind}: one network that turns {card.kind} into latents and back, and
generates new ones. It was trained by recipe `{config.recipe}`: {config.steps:,} steps{trained}.

    openunite sample {name}
    openunite demo {name}

    import openunite
    samples = openunite.sample("{name}", 8)

## Data and licence

Trained on: {account}. The weights are under the Apache License 2.0, as the package is.

## Numbers

Columns named "real" are real data, measured in the same way: the bound that samples can reach.
They are of the float32 weights; these are rounded to float16.

{chr(10).join(table)}

The protocol, and the errors of these numbers, are in card.json.

## What it cannot do

It is a demonstration that trains in minutes: it knows only what its small training set shows, and
its samples are clearly worse than real data (compare the columns above). Do not use it to judge
UNITE, or to draw conclusions about real {card.kind}.

## How it was made

`openunite train --config {TRAINING} --output runs/{name}`, with the {TRAINING} of this folder, and
`python -m tools.package_weights runs/{name} {name}`.
"""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", help="the folder of a finished run")
    parser.add_argument("name", help="the name of the packaged weights")
    parser.add_argument("--data-licence", default="", help="training data and their licence")
    given = parser.parse_args()
    try:
        folder = package(given.run, given.name, account=given.data_licence)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    data = load_config(folder / TRAINING).data.source
    print(f"{folder}: {size:,} bytes; golden {json.dumps(read_json(folder / f'{GOLDEN}.json'))}")
    account = ACCOUNTS.get(data, given.data_licence)
    print(
        f"Add to NOTICE: - A small model trained on {account}: src/openunite/weights/{given.name}."
    )


if __name__ == "__main__":
    main()

"""Does the loader feed the model? Images/s decoded against images/s trained, on this machine.

    python -m benchmarks.loader photos256/
    python -m benchmarks.loader photos256/ --recipe imagenet256_b --workers 0 4 8 16

Decoding: batches of the training order through the trainer's own loader, images decoded on demand
from the prepared shards as in a set that exceeds memory. Training: steps of the recipe (by default
what `train images` would choose here) on a batch that is already there. Needs what `openunite
prepare` wrote, or any other source of images.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.machine import describe, save
from openunite.data.images.dataset import ImageData, ImageDataset, open_images
from openunite.task import Options
from openunite.training.config import RunConfig
from openunite.training.device import choose_device
from openunite.training.loader import make_loader, sample_order
from openunite.verbs.configure import base_config, configure, step_seconds


def main() -> None:
    options = _options()
    size, patch = options.size, max(1, options.size // 8)
    shape = {} if options.recipe != "images" else {"image_size": size, "patch_size": patch}
    base, fresh = base_config(options.recipe)
    config = configure(base, Options(fresh=fresh, **shape), options.data)
    config = replace(config, batch_size=options.batch_size, micro_batch_size=None)
    data = _open(config).train
    rates = {n: decoded_per_second(config, data, n, options.batches) for n in options.workers}
    trained = config.batch_size / step_seconds(config, data)
    best = max(rates, key=lambda n: rates[n][0])
    rows = [
        f"Images of {size} pixels, batches of {config.batch_size}, recipe {options.recipe}",
        "",
        "| workers | images/s decoded, median | lowest and highest | of what training takes |",
        "|---|---|---|---|",
        *(
            f"| {n} | {middle:,.0f} | {low:,.0f} to {high:,.0f} | {middle / trained:.1f} x |"
            for n, (middle, low, high) in rates.items()
        ),
        "",
        f"Training alone: {trained:,.1f} images/s. Best with {best} workers.",
    ]
    result = {
        "machine": describe(choose_device(), clock="wall clock"),
        "options": {**vars(options), "data": Path(options.data).name},
        "decoded": {str(n): rate for n, rate in rates.items()},
        "trained": trained,
    }
    save("loader", result, rows)


def decoded_per_second(
    config: RunConfig, data: ImageDataset, workers: int, batches: int
) -> tuple[float, float, float]:
    """Median, lowest and highest images/s over three passes, start of the workers apart."""
    order = sample_order(config, data, 1)
    found = []
    for repeat in range(3):
        indices = order.batches(repeat * batches, repeat * batches + batches + 1, 0)
        loader = iter(make_loader(data, indices, workers, pinned=False))
        next(loader)
        started = time.perf_counter()
        count = sum(len(batch) for batch in loader)
        found.append(count / (time.perf_counter() - started))
    return statistics.median(found), min(found), max(found)


def _open(config: RunConfig) -> ImageData:
    image = config.modality_config
    return open_images(
        config.data.source,
        height=image["height"],
        width=image["width"],
        channels=image["channels"],
        memory_limit=0,
        progress=False,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--recipe", default="images")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

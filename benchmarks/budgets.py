"""What minutes buy on own images: `python -m benchmarks.budgets` trains the grid.

    OMP_NUM_THREADS=1 python -m benchmarks.budgets --output runs/budgets --minutes 5

Each row is one run of `openunite train images --minutes`, whose minutes are those of one thread's
processor time here, so that other work on the machine decides nothing. Samples with the run's own
guidance are compared with the held-out images. The rows are written after each run; the same
command goes on where an earlier one was stopped. The images come from packages: scikit-learn's
digits enlarged to 28 pixels, textures cut from the pictures of scikit-image, and the embedded
Fashion-MNIST-mini.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import RESULTS, describe
from openunite import clock
from openunite.evaluation.images.feature_sets import FeatureSet, features_of
from openunite.evaluation.images.features import load_extractor
from openunite.evaluation.images.table import FD, KID, ImageMetrics
from openunite.files import write_json
from openunite.modalities.image.task import ImageTask
from openunite.progress import showing
from openunite.runs import Run
from openunite.training.device import choose_device
from openunite.verbs.train import train

DATA = ("textures", "digits", "fashion")
SAMPLES, BATCH = 300, 50
PICTURES = ("brick", "grass", "gravel", "ihc", "hubble_deep_field", "coffee")
CUT, SIDE = 64, 32  # pixels of a texture in its picture and in the data set
CLOCK = "seconds: processor time of the whole command, one thread; wall_seconds beside it"


@dataclass(frozen=True)
class Arm:
    """One run; rows of the record hold these fields and what was measured."""

    data: str
    minutes: float
    tokens: int
    head: str
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        return dict(vars(self))

    @property
    def name(self) -> str:
        return "-".join(f"{value}" for value in vars(self).values())


def main() -> None:
    """Train and judge every arm that has no row yet."""
    options = _options()
    machine = describe(choose_device(), CLOCK)
    about = {"command": "python -m benchmarks.budgets", "commit": machine["commit"]}
    rows: list[dict[str, Any]] = []
    if options.record.is_file():
        rows = json.loads(options.record.read_text())["rows"]
    for arm in arms(options.data, options.minutes, options.tokens, options.heads, options.seeds):
        if any(arm.key.items() <= row.items() for row in rows):
            continue
        row = measure(arm, options.output)
        rows.append(row | {"commit": machine["commit"]})
        write_json(options.record, {**about, "machine": machine, "rows": rows})
        print(json.dumps(row), flush=True)


def arms(
    data: Sequence[str],
    minutes: Sequence[float],
    tokens: Sequence[int],
    heads: Sequence[str],
    seeds: Sequence[int],
) -> list[Arm]:
    """All arms; every data set with a setting before the next setting."""
    grid = product(minutes, seeds, tokens, heads, data)
    return [Arm(name, length, count, head, seed) for length, seed, count, head, name in grid]


def measure(arm: Arm, output: Path) -> dict[str, Any]:
    """Train one arm and judge its samples; a stopped run goes on."""
    clock.now = time.process_time
    began, since = time.process_time(), time.time()
    side = SIDE if arm.data == "textures" else 28
    with showing():
        run = train(
            "images",
            source(arm.data, output),
            output=output / arm.name,
            minutes=arm.minutes,
            seed=arm.seed,
            image_size=side,
            patch_size=round(side / arm.tokens**0.5),
            set=(f"modality_config.head={arm.head}", "data.holdout_share=0.25"),
        )
    spent = {
        "seconds": round(time.process_time() - began, 1),
        "wall_seconds": round(time.time() - since, 1),
    }
    metrics = run.metrics
    seam = metrics.get("seams_samples_guided", metrics["seams_samples"])
    found = ImageMetrics(reference(arm.data, output, side), False, (FD, KID)).evaluate(
        features(samples(run)), None
    )
    kid = found[KID.name]
    return arm.key | {
        "kid": kid.value,
        "kid_se": kid.error,
        "fd": found[FD.name].value,
        **spent,
        "seam": seam,
        "seam_recon": metrics["seams_recon"],
        "psnr": metrics["recon_psnr_db"],
        "steps": metrics["steps"],
        "parameters": metrics["parameters"],
    }


def samples(run: Run) -> Tensor:
    """Samples of a run with the settings of its pipeline, all classes in turn."""
    torch.manual_seed(0)
    classes = run.config.num_classes
    parts = []
    for first in range(0, SAMPLES, BATCH):
        seeds = range(first, first + BATCH)
        labels = [seed % classes for seed in seeds] if classes else None
        parts.append(run.pipeline.generate(labels, seeds=seeds).cpu())
    return torch.cat(parts)


@cache
def reference(data: str, output: Path, side: int) -> FeatureSet:
    """Features of the held-out images of a data set, as every run on it sees them."""
    folder = next(p for p in sorted(output.glob(f"{data}-*")) if (p / "metrics.json").is_file())
    run = Run(folder)
    opened = ImageTask().open(run.config, source(data, output), progress=False)
    images = opened.test.batch(list(range(len(opened.test)))).data
    return features(images.float() / 255.0)


def features(images: Tensor) -> FeatureSet:
    """Features of the extractor that is the default for own images."""
    return features_of(load_extractor("efficientnet-lite0"), images, BATCH)


# ---- data ---------------------------------------------------------------------------------------


def source(data: str, output: Path) -> Path:
    """A folder or file of images, made at the first call."""
    path = output / "data" / (f"{data}.npz" if data == "fashion" else data)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        {"textures": _textures, "digits": _digits, "fashion": _fashion}[data](path)
    return path


def _textures(folder: Path) -> None:
    """Squares cut from pictures of scikit-image, one class per picture, side by side."""
    import skimage

    home = Path(skimage.__file__).parent / "data"
    for name in PICTURES:
        (file,) = home.glob(f"{name}.*")
        picture = Image.open(file).convert("RGB")
        (folder / name).mkdir(parents=True)
        for top in range(0, picture.height - CUT + 1, CUT // 2):
            for left in range(0, picture.width - CUT + 1, CUT // 2):
                square = picture.crop((left, top, left + CUT, top + CUT))
                square = square.resize((SIDE, SIDE), Image.Resampling.BOX)
                square.save(folder / name / f"{top:04d}-{left:04d}.png")


def _digits(folder: Path) -> None:
    """Scikit-learn's digits of 8 x 8 pixels, enlarged to 28 x 28."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        home = folder / str(label)
        home.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((image * 255.0 / 16.0).astype(np.uint8))
        picture.resize((28, 28), Image.Resampling.BICUBIC).save(home / f"{number:04d}.png")


def _fashion(file: Path) -> None:
    """A copy of the embedded images, so that they are treated as anybody's own."""
    from openunite.data.images import arrays

    content = (Path(arrays.__file__).parent / "assets" / "fashion_mnist_mini.npz").read_bytes()
    file.write_bytes(content)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/budgets"), help="folder of runs")
    parser.add_argument("--record", type=Path, default=RESULTS / "budgets_images.json")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64])
    heads = ["convolutional", "linear"]
    parser.add_argument("--heads", nargs="+", choices=heads, default=heads)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Which form is better for many small images: prepared tar shards, plain ones, or Arrow on disk?

    python -m benchmarks.shards
    python -m benchmarks.shards --counts 50000 200000 --folder /fast/disk

The same PNG files of 32 x 32 pixels and ten classes in all forms: what `openunite prepare` writes,
its shards without their index (as any webdataset), and `save_to_disk` of Hugging Face `datasets`.
Each form is opened in a process of its own, by the reader that training uses, with the files in
the page cache; times are processor time. Cells of Arrow are also read by pyarrow itself, which
leaves out what `datasets` does per row.
"""

import argparse
import json
import pickle
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from openunite.data.images.readers import read_source
from openunite.data.images.sources import Source

FORMS = ("prepared shards", "plain shards", "Arrow", "Arrow, cells by pyarrow")
READS = 20_000


def main(options: argparse.Namespace) -> None:
    import torch  # not above: the processes that measure need neither

    from benchmarks.machine import describe, save

    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for count in options.counts:
            found[count] = _measure(Path(folder) / str(count), count, options.repeats)
    rows = [
        "PNG files of 32 x 32 pixels; medians, lowest and highest of "
        f"{options.repeats} processes, {READS:,} random reads each",
        "",
        "| images | form | open, s | memory after, MB | reads/s | pickled, MB | on disk, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for count, forms in found.items():
        for form, values in forms.items():
            first, second = (_spread(values[key]) for key in ("open", "reads"))
            rest = (f"{values[key] / 1e6:,.1f}" for key in ("pickled", "disk"))
            cells = (f"{count:,}", form, first, f"{values['memory']:,.0f}", second, *rest)
            rows.append(f"| {' | '.join(cells)} |")
    result = {
        "machine": describe(torch.device("cpu"), clock="processor time"),
        "options": {**vars(options), "folder": "temporary"},
        "found": {str(count): forms for count, forms in found.items()},
    }
    save("shards", result, rows)


def _measure(folder: Path, count: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Make all forms, then open each of them in processes of their own."""
    places, made = _make(folder, count)
    found: dict[str, dict[str, Any]] = {}
    for form, place in places.items():
        command = [sys.executable, "-m", "benchmarks.shards"]
        command += ["--child", form, "--folder", str(place)]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(repeats + 1)
        ][1:]  # the first one fills the page cache
        found[form] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        found[form] |= {key: [run[key] for run in runs] for key in ("open", "reads")}
        found[form]["disk"] = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
        found[form]["made"] = made.get(form)
    return found


def _make(folder: Path, count: int) -> tuple[dict[str, Path], dict[str, float]]:
    import datasets

    from openunite.data.images.prepare import prepare_images

    datasets.disable_progress_bars()
    folder.mkdir(parents=True)
    # Five bits of noise: files of about 2 kB, as small photographs have.
    images = np.random.default_rng(0).integers(0, 32, (count, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "set.npz", images=images, labels=np.arange(count) % 10)
    started = time.process_time()
    prepare_images(folder / "set.npz", folder / "prepared", size=32, channels=3, progress=False)
    made = {"prepared shards": time.process_time() - started}
    shutil.copytree(folder / "prepared", folder / "plain", ignore=lambda *_: ["prepared.json"])
    for file in (folder / "plain").glob("*.npz"):
        file.unlink()
    source = read_source(folder / "prepared", folder)

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(count):
            yield {"image": {"bytes": source.items.read(i), "path": None}, "label": i % 10}

    names = [str(i) for i in range(10)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(10, names)}
    features = datasets.Features(kinds)
    started = time.process_time()
    table = datasets.Dataset.from_generator(rows, features, cache_dir=str(folder / "cache"))
    table.save_to_disk(str(folder / "arrow"))
    made["Arrow"] = time.process_time() - started
    places = (folder / "prepared", folder / "plain", folder / "arrow", folder / "arrow")
    return dict(zip(FORMS, places, strict=True)), made


def _child(form: str, folder: Path) -> None:
    """Open one form, read at random, print the numbers."""
    if form.startswith("Arrow"):
        import datasets  # noqa: F401  (its import is no part of opening)
    before = _resident()
    started = time.process_time()
    source = read_source(folder, folder)
    taken = time.process_time() - started
    memory = _resident() - before
    read = _reader(form, source)
    places = np.random.default_rng(1).integers(0, len(source.items), READS).tolist()
    started = time.process_time()
    total = sum(len(read(i)) for i in places)
    rate = READS / (time.process_time() - started)
    pickled = len(pickle.dumps(source.items))
    sizes = {"memory": memory, "pickled": pickled, "bytes": total}
    print(json.dumps({"open": taken, "reads": rate, **sizes}))


def _resident() -> float:
    """Megabytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _reader(form: str, source: Source) -> Callable[[int], Any]:
    if form == "Arrow, cells by pyarrow":
        column = source.items.rows.data.column("image")  # type: ignore[attr-defined]
        return lambda i: column[i]["bytes"].as_py()
    return source.items.read


def _spread(values: list[float]) -> str:
    digits = 0 if max(values) > 100 else 3
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder")
    parser.add_argument("--child", choices=FORMS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _options()
    if given.child:
        _child(given.child, Path(given.folder))
    else:
        main(given)

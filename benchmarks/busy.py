"""How fast does a run train beside other busy programs?

    python -m benchmarks.busy
    python -m benchmarks.busy --busy 0 2 4 --trials 5 --seconds 20

Trains the recipe `fashion` beside 0, 1, 2 and 4 processes of one thread that only compute, in turn:
with the number of threads that the run chooses for itself, with one, and with one for each core.
The fair share beside n such processes is cores / (cores + n) of the images/s alone.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.machine import describe, save
from openunite.training.device import choose_device


def main() -> None:
    options = _options()
    cores = os.cpu_count() or 1
    choices = {"chosen by the run": None, "one": 1, f"one per core ({cores})": cores}
    rates: dict[str, dict[int, list[float]]] = {c: {n: [] for n in options.busy} for c in choices}
    for _ in range(options.trials):
        for busy in options.busy:
            for choice, threads in choices.items():
                rates[choice][busy].append(images_per_second(busy, threads, options.seconds))
    alone = statistics.median(rates["chosen by the run"][min(options.busy)])
    head = "| threads | " + " | ".join(f"beside {n}" for n in options.busy) + " |"
    rows = [head, "|---" * (1 + len(options.busy)) + "|"]
    for choice, found in rates.items():
        cells = (
            f"{statistics.median(v):.0f} ({min(v):.0f} to {max(v):.0f})" for v in found.values()
        )
        rows.append(f"| {choice} | " + " | ".join(cells) + " |")
    share = (f"{alone * cores / (cores + n):.0f}" for n in options.busy)
    rows.append("| fair share | " + " | ".join(share) + " |")
    about = describe(choose_device(), clock="wall clock")
    result = {"command": " ".join(sys.argv), "machine": about, "images_per_second": rates}
    save("busy", result, [f"Images/s, median of {options.trials} trials (range)", "", *rows])


def images_per_second(busy: int, threads: int | None, seconds: float) -> float:
    """Images/s of a run of some seconds, beside `busy` processes that only compute."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
        for _ in range(busy):
            spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(spinning.kill)
        command = [sys.executable, "-m", "openunite", "train", "fashion", "--output", str(folder)]
        training = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(training.kill)
        while not (folder / "config.yaml").exists():
            time.sleep(0.1)
        time.sleep(seconds)
        training.send_signal(signal.SIGTERM)  # the run stops after its step and writes its rows
        training.wait()
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return len(rows) / sum(1 / row["samples_per_second"] for row in rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

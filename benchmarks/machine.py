"""What a result needs to be read later: machine, versions, commit, peaks, and where it is kept."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch

from benchmarks.measure import clock_of, seconds_of

RESULTS = Path(__file__).parent / "results"
# Published dense bf16 peaks, FLOP/s. A machine that is not named has no MFU against a peak.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}


def describe(device: torch.device, clock: str | None = None) -> dict[str, Any]:
    """Machine, versions and commit; `dirty` says that the checkout had other changes.

    `clock` is what was read, if not that of `measure.seconds_of`.
    """
    root = Path(__file__).parent
    changed = _run("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {
        "device": device.type,
        "machine": _gpu(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "clock": clock or clock_of(device),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": platform.python_version(),
        "commit": _run("git", "-C", str(root), "rev-parse", "--short", "HEAD"),
        "dirty": bool(changed),
    }


def published_peak(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of this GPU by its data sheet; None where it is not known."""
    name = _gpu(device) if device.type == "cuda" else ""
    return next((peak for key, peak in PEAKS.items() if key in name), None)


def product_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Best FLOP/s of a square matrix product on this machine, now: what no step can exceed."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    taken = [seconds_of(lambda: a @ b, device) for _ in range(12)]
    return 2.0 * size**3 / min(taken[2:])


def save(name: str, result: Mapping[str, Any], table: Sequence[str]) -> None:
    """Print the table; write it and the numbers to results/NAME.md and .json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    where = result["machine"]
    note = (
        f"{where['machine']} ({where['device']}, threads: {where['threads']}), {where['clock']}, "
        f"torch {where['torch']}, commit {where['commit']}{' with changes' * where['dirty']}"
    )
    (RESULTS / f"{name}.md").write_text("\n".join([*table, "", note]) + "\n")
    print("\n".join([*table, "", note]))


def _gpu(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def _processor() -> str:
    """The name /proc gives, else the one Python has."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

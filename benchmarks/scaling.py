"""The communication model of training/scaling.py against two gloo processes on this machine.

    torchrun --standalone --nproc_per_node 2 -m benchmarks.scaling

Latency and rate of an all-reduce are fitted to a small and a large message; sizes between and
beyond are predicted, then measured. On a GPU cluster the same command measures its NCCL links.
"""

import statistics
import time

import torch
import torch.distributed as dist

from benchmarks.machine import describe, save
from openunite.training.device import choose_device
from openunite.training.scaling import DEVICES, Network

SMALL, LARGE = 2**12, 2**22  # bytes; fitted
SIZES = (2**14, 2**18, 2**20, 2**24)  # predicted


def main() -> None:
    device = choose_device()
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    world = dist.get_world_size()
    measured = {size: all_reduce_seconds(size, device) for size in (SMALL, LARGE, *SIZES)}
    hops = 2 * (world - 1)
    per_byte = (measured[LARGE] - measured[SMALL]) / (LARGE - SMALL)
    rate = hops / world / per_byte
    latency = max(0.0, measured[SMALL] - SMALL * per_byte) / hops
    network = Network(per_node=0, between=rate, usable=1.0, latency=latency)
    predicted = {n: network.all_reduce(n, DEVICES["h200"], world) for n in SIZES}
    rows = [
        f"All-reduce over {world} processes ({dist.get_backend()}): fitted {rate / 1e9:.2f} GB/s, "
        f"{latency * 1e6:.0f} us per hop",
        "",
        "| bytes | predicted ms | measured ms | measured / predicted |",
        "|---|---|---|---|",
        *(
            f"| {n:,} | {1e3 * predicted[n]:.3f} | {1e3 * measured[n]:.3f} | "
            f"{measured[n] / predicted[n]:.2f} |"
            for n in SIZES
        ),
    ]
    if dist.get_rank() == 0:
        about = {"machine": describe(device), "world": world, "rate": rate, "latency": latency}
        seconds = {"predicted": predicted, "measured": measured}
        save("scaling", {**about, **seconds}, rows)
    dist.destroy_process_group()


def all_reduce_seconds(size: int, device: torch.device) -> float:
    """Median over 9 calls, all processes starting together, the slowest counting."""
    message = torch.ones(size // 4, device=device)
    taken = []
    for _ in range(12):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(message)
        if device.type == "cuda":
            torch.cuda.synchronize()
        slowest = torch.tensor(time.perf_counter() - started, device=device)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        taken.append(float(slowest))
    return statistics.median(taken[3:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

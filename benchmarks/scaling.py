"""The communication model of training/scaling.py against two gloo processes on this machine.

    torchrun --standalone --nproc_per_node 2 -m benchmarks.scaling

Latency and rate of an all-reduce are fitted to a small and a large message; sizes between and
beyond are predicted, then measured, and so is a training step: its arithmetic, timed while nobody
exchanges anything, plus the model's time for its messages. On a GPU cluster the same command
measures its NCCL links.
"""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import torch
import torch.distributed as dist

from benchmarks.cases import our_trainer, small
from benchmarks.machine import describe, save
from openunite.planning.scaling import DEVICES, Network
from openunite.training.device import choose_device

SMALL, LARGE = 2**12, 2**22  # bytes; fitted
SIZES = (2**14, 2**18, 2**20, 2**24)  # predicted
WARM, RUNS = 3, 9


def main() -> None:
    device = choose_device()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    world = dist.get_world_size()
    measured = {size: all_reduce_seconds(size, device) for size in (SMALL, LARGE, *SIZES)}
    hops = 2 * (world - 1)
    per_byte = (measured[LARGE] - measured[SMALL]) / (LARGE - SMALL)
    rate = hops / world / per_byte
    latency = max(0.0, measured[SMALL] - SMALL * per_byte) / hops
    network = Network(per_node=0, between=rate, usable=1.0, latency=latency)
    predicted = {n: network.all_reduce(n, DEVICES["h200"], world) for n in SIZES}
    step = step_seconds(network, device)
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
        "",
        f"A step of 32 images on {world} processes: predicted {1e3 * step['arithmetic']:.1f} ms of "
        f"arithmetic and {1e3 * step['messages']:.1f} ms of messages, "
        f"{1e3 * step['measured']:.1f} ms measured ({step['ratio']:.2f} times).",
    ]
    if dist.get_rank() == 0:
        about = {
            "machine": describe(device, "wall clock"),
            "world": world,
            "rate": rate,
            "latency": latency,
        }
        seconds = {"predicted": predicted, "measured": measured, "step": step}
        save("scaling", {**about, **seconds}, rows)
    dist.destroy_process_group()


def step_seconds(network: Network, device: torch.device) -> dict[str, float]:
    """Of the small model of the other benchmarks: predicted in two parts, and measured.

    A step has two messages of gradients and two of a few numbers each, which cost latency. On
    processors that are all busy, none of them is hidden behind arithmetic.
    """
    trainer = our_trainer(small())
    batches, world = iter(trainer.batches()), dist.get_world_size()

    def step() -> object:
        return trainer.advance(batches)

    def alone() -> object:
        with ExitStack() as stack:
            stack.enter_context(patch("openunite.training.step.GradientAverage"))
            stack.enter_context(patch.object(trainer.accelerator, "reduce", lambda x, how: x))
            return step()

    arithmetic, measured = slowest([alone, step], device)
    sizes = [4 * sum(p.numel() for p in part.parameters()) for part in trainer.model.values()]
    messages = sum(network.all_reduce(n, DEVICES["h200"], world) for n in (*sizes, 64, 64))
    ratio = measured / (arithmetic + messages)
    parts = {"arithmetic": arithmetic, "messages": messages}
    return {**parts, "measured": measured, "ratio": ratio, "bytes": float(sum(sizes))}


def all_reduce_seconds(size: int, device: torch.device) -> float:
    """Of one message of `size` bytes."""
    message = torch.ones(size // 4, device=device)
    return slowest([lambda: dist.all_reduce(message)], device)[0]


def slowest(calls: list[Callable[[], object]], device: torch.device) -> list[float]:
    """Median seconds of each call, in turn; all processes start together, the slowest counts."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(WARM + RUNS):
        for call, seconds in zip(calls, taken, strict=True):
            dist.barrier()
            started = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            longest = torch.tensor(time.perf_counter() - started, device=device)
            dist.all_reduce(longest, dist.ReduceOp.MAX)
            seconds.append(float(longest))
    return [statistics.median(seconds[WARM:]) for seconds in taken]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

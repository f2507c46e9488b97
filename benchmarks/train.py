r"""Training: `python -m benchmarks.train` measures a step as released and as here, side by side.

    python -m benchmarks.train                                        this machine, small
    python -m benchmarks.train --recipe imagenet256_b --precision bf16 --compile \
        --batch-size 128 --micro-batch-size 32                        a GPU, as one of eight trains

Writes benchmarks/results/train_NAME.json and .md. On a CPU read the ratios, not the times.
"""

import argparse
import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmarks.cases import Step, denoiser_step, dit_step, our_step, released_step, small
from benchmarks.machine import describe, product_ceiling, published_peak, save
from benchmarks.measure import Timing, alternate, memory_by, paired, peak_bytes
from benchmarks.released import LoopedMuon, plain_muon
from benchmarks.undo import undone
from openunite.catalog import recipes
from openunite.planning.cost import flops
from openunite.training.build import build_models
from openunite.training.config import RunConfig
from openunite.training.device import choose_device
from openunite.training.optim import BatchedMuon, partition

DRAWS = (1, 3, 7, 14)
MODELS = {"small": small, **recipes()}


def main() -> None:
    options = _options()
    device, config = choose_device(), _config(options)
    result: dict[str, Any] = {**describe_run(options, config, device)}
    table = [f"# Training, {options.recipe}, {config.model.depth} x {config.model.width}"]
    parts = {"step": step, "denoiser": denoiser, "memory": memory, "muon": muon, "undo": undo}
    for name in options.parts or parts:
        result[name], lines = parts[name](config, device, options)
        table += ["", *lines]
        save(f"train_{options.name}", result, table)  # the next may not fit


def step(config: RunConfig, device: torch.device, options: argparse.Namespace) -> Any:
    """A whole optimizer step: forward, backward, clipping, optimizers, moving average."""
    steps: dict[str, Step] = {
        "as released": released_step(config, device),
        "as released, Muon in float32": released_step(config, device, float32=True),
        "here": our_step(config),
    }
    if options.compile:
        steps["here, compiled"] = our_step(config, compiled=True)
    timings = alternate(steps, device, runs=options.runs)
    counted = flops(config).step(config.objective.flow_draws)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    peak = published_peak(device) if config.precision == "bf16" else None
    rates = {"peak": peak, "ceiling": product_ceiling(device, dtype)}
    found = {}
    for name, timing in timings.items():
        images = config.batch_size / timing.median
        found[name] = {
            **timing.as_dict(),
            "images_per_second": images,
            "flop_per_image": counted,
            "mfu_peak": images * counted / rates["peak"] if rates["peak"] else None,
            "mfu_ceiling": images * counted / rates["ceiling"],
            "peak_bytes": peak_bytes(steps[name], device),
        }
    head = f"Whole step, batch {config.batch_size}, k = {config.objective.flow_draws}"
    lines = [f"## {head}", ""]
    lines += [
        "| step | median ms | lower quartile | spread | images/s | of peak | of product ceiling "
        "| peak MiB | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        lines.append(
            f"| {name} | {_times(timings[name])} | {row['images_per_second']:.1f} | "
            f"{_share(row['mfu_peak'])} | {_share(row['mfu_ceiling'])} | "
            f"{row['peak_bytes'] / 2**20:.0f} | {_ratio(timings['as released'], timings[name])} |"
        )
    return {**found, "flops": rates, "memory_by": memory_by(device)}, lines


def denoiser(config: RunConfig, device: torch.device, options: argparse.Namespace) -> Any:
    """One denoising pass, forward and backward, beside diffusers' DiT of the same size."""
    steps = {"diffusers DiT": dit_step(config, device), "here": denoiser_step(config, device)}
    timings = alternate(steps, device, runs=options.runs)
    lines = ["## Denoising pass alone, forward and backward", ""]
    lines += ["| network | median ms | lower quartile | spread | peak MiB | ratio |"]
    lines += ["|---|---|---|---|---|---|"]
    found = {}
    for name, timing in timings.items():
        found[name] = {**timing.as_dict(), "peak_bytes": peak_bytes(steps[name], device)}
        lines.append(
            f"| {name} | {_times(timing)} | {found[name]['peak_bytes'] / 2**20:.0f} | "
            f"{_ratio(timings['diffusers DiT'], timing)} |"
        )
    return found, lines


def memory(config: RunConfig, device: torch.device, options: argparse.Namespace) -> Any:
    """Peak memory of a step over k, beyond weights and optimizer state."""
    build = {"as released": lambda c: released_step(c, device), "here": our_step}
    found: dict[str, dict[str, int | None]] = {name: {} for name in build}
    for draws in DRAWS:
        drawn = replace(config, objective=replace(config.objective, flow_draws=draws))
        for name, make in build.items():
            found[name][str(draws)] = _peak_of_second(make(drawn), device)
    lines = [f"## Peak memory of a step in MiB ({memory_by(device)})", ""]
    lines += [f"| step | {' | '.join(f'k = {k}' for k in DRAWS)} | k = 14 / k = 1 |"]
    lines += ["|---" * (len(DRAWS) + 2) + "|"]
    for name, row in found.items():
        cells = " | ".join(f"{n / 2**20:.1f}" if n else "does not fit" for n in row.values())
        few, many = row["1"], row["14"]
        lines.append(f"| {name} | {cells} | {many / few if few and many else math.nan:.2f} |")
    return found, lines


def _peak_of_second(call: Step, device: torch.device) -> int | None:
    """Of a step after the first, which makes the optimizers' state; None if it does not fit."""
    try:
        call()
        return peak_bytes(call, device)
    except torch.OutOfMemoryError:
        return None


def muon(config: RunConfig, device: torch.device, options: argparse.Namespace) -> Any:
    """The optimizer of the matrices alone, on gradients of noise."""
    steps = {
        "torch.optim.Muon (bf16 inside)": lambda p: plain_muon(p, 1e-3),
        "float32, one matrix at a time": lambda p: LoopedMuon(p, precision=torch.float32),
        "float32, batched": lambda p: BatchedMuon(p, precision=torch.float32),
        "bf16, batched": lambda p: BatchedMuon(p, precision=torch.bfloat16),
    }
    model = nn.ModuleDict(dict(zip(("encoder", "decoder"), build_models(config), strict=True)))
    shapes = [p.shape for _, p in partition(model)["muon"]]
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(s, generator=generator).to(device) for s in shapes]
    made = {}
    for name, build in steps.items():
        parameters = [nn.Parameter(torch.zeros_like(m)) for m in matrices]
        for parameter, grad in zip(parameters, matrices, strict=True):
            parameter.grad = grad
        made[name] = build(parameters).step
    timings = alternate(made, device, runs=options.runs)
    first = next(iter(timings.values()))
    lines = [f"## Muon on {len(shapes)} matrices of {len(set(shapes))} shapes", ""]
    lines += [
        "| optimizer | median ms | lower quartile | spread | ratio |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {_times(timing)} | {_ratio(first, timing)} |"
        for name, timing in timings.items()
    ]
    return {name: timing.as_dict() for name, timing in timings.items()}, lines


def undo(config: RunConfig, device: torch.device, options: argparse.Namespace) -> Any:
    """Our step with one change at a time taken back, or made, each beside the step as it is.

    The ratio is the median over neighboring pairs, which a drifting machine slows down alike; it
    need not be that of two medians.
    """
    steps = undone(config)
    here, found = steps.pop("here"), {}
    lines = ["## One change at a time, whole step", ""]
    lines += [
        "| our step, but | times as long, median of pairs | quartiles apart |",
        "|---|---|---|",
    ]
    for name, step in steps.items():
        ours, theirs, ratio = paired(here, step, device, runs=2 * options.runs)
        found[name] = {"here": ours.as_dict(), "undone": theirs.as_dict(), "ratio": ratio.as_dict()}
        lines.append(f"| {name} | {ratio.median:.3f} | {ratio.spread:.3f} |")
    return found, lines


def describe_run(
    options: argparse.Namespace, config: RunConfig, device: torch.device
) -> dict[str, Any]:
    """What was measured and where."""
    asked = {key: value for key, value in vars(options).items() if value is not None}
    return {"machine": describe(device), "options": asked, "model": vars(config.model)}


def _config(options: argparse.Namespace) -> RunConfig:
    config = MODELS[options.recipe]()
    size = {"width": options.width, "depth": options.depth}
    if options.width:
        size |= {"num_heads": max(1, options.width // 32)}
    return replace(
        config,
        model=replace(config.model, **{k: v for k, v in size.items() if v}),
        objective=replace(config.objective, flow_draws=options.draws),
        batch_size=options.batch_size,
        micro_batch_size=options.micro_batch_size,
        steps=1_000_000,
        data=replace(config.data, workers=0),
        precision=options.precision,
    )


def _times(timing: Timing) -> str:
    parts = (timing.median, timing.lower_quartile, timing.spread)
    return " | ".join(f"{1e3 * seconds:.1f}" for seconds in parts)


def _ratio(base: Timing, timing: Timing) -> str:
    """Of medians, and of lower quartiles behind it."""
    low = base.lower_quartile / timing.lower_quartile
    return f"{base.median / timing.median:.2f} ({low:.2f})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", help="of step, denoiser, memory, muon, undo; all if none"
    )
    parser.add_argument(
        "--recipe", choices=MODELS, default="small", help="the model and its images"
    )
    parser.add_argument("--width", type=int, help="instead of the recipe's (heads of 32)")
    parser.add_argument("--depth", type=int, help="instead of the recipe's")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--micro-batch-size", type=int, help="at a time; default the whole batch")
    parser.add_argument("--draws", type=int, default=3, help="flow draws k")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--compile", action="store_true", help="measure our step compiled, too")
    parser.add_argument("--runs", type=int, default=9, help="measurements of each variant")
    parser.add_argument("--name", help="of the results; default the recipe and the parts")
    options = parser.parse_args()
    options.name = options.name or "_".join([options.recipe, *options.parts])
    return options


if __name__ == "__main__":
    main()

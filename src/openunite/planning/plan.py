"""`openunite info SOURCE --gpus N`: the resources that a run would need."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from openunite.planning.cost import flops, num_parameters, sampling_passes
from openunite.planning.memory import draws_at_once, memory
from openunite.planning.scaling import DEVICES, Device, step_time
from openunite.training.config import RunConfig

RELEASE_MFU = 0.105  # 102.7 images/s per H200, UNITE-B with k = 3, as published
_ROOM = 0.95  # usable fraction of a device's memory


def plan(config: RunConfig, gpus: int, gpu: str, mfu: float) -> str:
    """Parameters, FLOPs, memory, time and advice as text. Raises ValueError for bad numbers."""
    if gpus < 1 or not 0.0 < mfu <= 1.0:
        raise ValueError(f"expected at least 1 GPU and an MFU in (0, 1], got {gpus} and {mfu}")
    if config.batch_size % gpus:
        raise ValueError(f"batch_size must be a multiple of {gpus} GPUs, got {config.batch_size}")
    device = DEVICES[gpu]
    lines = [
        f"{config.recipe} on {gpus} x {gpu} ({device.peak / 1e12:.0f} TFLOP/s in bf16, "
        f"{device.memory / 1e9:.0f} GB), batch {config.batch_size}, {config.steps:,} steps",
        *_cost(config, device, mfu),
        *_memory_table(config, gpus, device),
        *_time(config, gpus, device, mfu),
        *advice(config, gpus, device),
    ]
    return "\n".join(lines)


def samples_at_once(config: RunConfig, gpus: int) -> int:
    """Number of samples that each device processes in one pass."""
    per_gpu = config.batch_size // gpus
    return min(per_gpu, config.micro_batch_size or per_gpu)


def fit_to_memory(config: RunConfig, gpus: int, device_bytes: float) -> RunConfig:
    """The config with a micro-batch size that fits into memory, unless it already sets one."""
    size = _fitting(config, gpus, _ROOM * device_bytes)
    if config.micro_batch_size is not None or size in (0, samples_at_once(config, gpus)):
        return config
    return replace(config, micro_batch_size=size)


def _fitting(config: RunConfig, gpus: int, room: float) -> int:
    """The largest divisor of the samples per pass that fits into memory; 0 if none does."""
    samples, limit = samples_at_once(config, gpus), memory(config, 1, gpus).most(room)
    return next((n for n in range(min(samples, limit), 0, -1) if not samples % n), 0)


def advice(config: RunConfig, gpus: int, device: Device) -> Iterator[str]:
    """Yield lines: whether the run fits into memory; if not, the cheapest change that helps."""
    samples, room = samples_at_once(config, gpus), _ROOM * device.memory
    need = memory(config, samples, gpus)
    if need.peak <= room:
        most = need.most(room)
        yield f"fits: {need.peak / 1e9:.1f} GB with {samples} at a time; up to {most} would"
        return
    yield f"does not fit: {need.peak / 1e9:.1f} of {device.memory / 1e9:.0f} GB. To change:"
    for precision, sharding in product((config.precision, "bf16"), (config.sharding, "full")):
        changed = replace(config, precision=precision, sharding=sharding)
        size = _fitting(changed, gpus, room)
        if size and (sharding != "full" or gpus > 1):
            options = f"--sharding {sharding} " if sharding != config.sharding else ""
            fields = [f"micro_batch_size={size}"] if size != samples else []
            fields += [f"precision={precision}"] if precision != config.precision else []
            options += f"--set {' '.join(fields)}" if fields else ""
            yield f"  {options.strip()}: {memory(changed, size, gpus).peak / 1e9:.1f} GB"
            return
    yield "  a smaller --size, or GPUs with more memory: not even one sample fits"


def _cost(config: RunConfig, device: Device, mfu: float) -> Iterator[str]:
    counted, draws = flops(config), config.objective.flow_draws
    size = config.model
    yield (
        f"parameters    {num_parameters(config) / 1e6:.1f} M: {size.depth} x {size.width}, "
        f"decoder {size.decoder_depth} x {size.decoder_width}"
    )
    parts = f"tokenize {counted.tokenize / 1e9:.4g}, decode {counted.decode / 1e9:.4g}, "
    parts += f"LPIPS {counted.perceptual / 1e9:.4g}, " if counted.perceptual else ""
    total = counted.step(draws) / 1e9
    yield (
        f"training      {total:,.4g} GFLOP per sample, forward and backward: {parts}"
        f"{draws} draws of {counted.flow_draw / 1e9:.4g}"
    )
    settings, passes = config.sampling, sampling_passes(config)
    if passes is not None:
        cost = counted.sample(passes)
        yield (
            f"sampling      {cost / 1e9:,.4g} GFLOP per sample: {settings.solver} with "
            f"{settings.num_inference_steps} steps, {passes} passes of the network, the decoder; "
            f"{mfu * device.peak / cost:,.0f} samples/s per GPU at MFU {mfu:.0%}"
        )


def _memory_table(config: RunConfig, gpus: int, device: Device) -> Iterator[str]:
    """Yield a table of peak memory by samples per pass, precision and sharding."""
    kinds = [("no", "none"), ("no", "full"), ("bf16", "none"), ("bf16", "full")]
    needs = [
        memory(replace(config, precision=precision, sharding=sharding), 1, gpus)
        for precision, sharding in kinds
    ]
    draws, settings = draws_at_once(config), config.objective
    held = "one flow draw is" if draws == 1 else f"{draws} flow draws are"
    whatever = not config.kind.shares_graph and draws == settings.draws_per_pass
    flat = ", whatever k" if whatever else ""
    yield f"memory        GB per GPU{flat}: {held} in memory at a time"
    yield "  at a time   " + "".join(f"{f'{p}, {s}':>12}" for p, s in kinds)
    for samples in (1, 8, 16, 32, 64, 128, 256):
        peaks = [replace(need, samples=samples).peak for need in needs]
        shown = (f"{p / 1e9:.1f}{' ' if p <= _ROOM * device.memory else '!'}" for p in peaks)
        yield f"  {samples:<12}" + "".join(f"{text:>12}" for text in shown)
    yield "  (columns: precision, sharding; ! does not fit)"


def _time(config: RunConfig, gpus: int, device: Device, mfu: float) -> Iterator[str]:
    yield "time          MFU, of the bf16 peak, is assumed until you have measured yours"
    for value, why in ((mfu, "requested"), (RELEASE_MFU, "of the authors' release")):
        step = step_time(config, device, gpus, value)
        rate, hours = config.batch_size / step.total, config.steps * step.total / 3600
        yield (
            f"  MFU {value:5.1%} ({why}): {rate:,.0f} samples/s, {rate / gpus:.1f} per GPU; "
            f"{hours:,.1f} hours, {hours * gpus:,.0f} GPU-hours; communication "
            f"{step.communication / step.total:.1%}, Muon {step.orthogonalization / step.total:.1%}"
        )
    yield "  the loader has to keep up with samples/s: python -m benchmarks.loader DATA"

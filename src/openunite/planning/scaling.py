"""Estimated time of a step on many devices, by a deliberately simple model.

    step = compute + communication + orthogonalization

compute: samples per device x FLOPs / (MFU x peak), with the same MFU for every batch size (this is
too optimistic below about 16 images per device). communication: to average one byte, a ring moves
2 (W - 1) / W bytes at the rate of the slowest link, plus a latency per hop. The gradients of the
decoder are sent while the flow draws of the last micro-batch are computed; only the time beyond
those counts. Nothing else overlaps. Sharded weights instead move three times (W - 1) / W bytes per
loss term. benchmarks/scaling.py checks the model on two processes.
"""

from dataclasses import dataclass

from torch import nn

from openunite.planning.cost import flops, meta_models
from openunite.training.config import RunConfig
from openunite.training.optim import partition

_FLOAT = 4
_NEWTON_SCHULZ_MFU = 0.3  # assumed, because Gram matrices of width 768 are small


@dataclass(frozen=True)
class Device:
    """An accelerator: dense bf16 peak (FLOP/s), memory (bytes), bytes/s within its node."""

    peak: float
    memory: float
    link: float


# From the data sheets of the vendors; links are one direction of NVLink (4090: PCIe 4.0 x16).
DEVICES = {
    "h200": Device(989e12, 141e9, 450e9),
    "h100": Device(989e12, 80e9, 450e9),
    "a100": Device(312e12, 80e9, 300e9),
    "4090": Device(165e12, 24e9, 32e9),
}


@dataclass(frozen=True)
class Network:
    """Assumptions: eight devices per node, 400 Gbit/s per device between nodes, 80 % usable."""

    per_node: int = 8
    between: float = 50e9
    usable: float = 0.8
    latency: float = 5e-6

    def rate(self, device: Device, world: int) -> float:
        """Bytes/s of the slowest link in a ring of `world` devices."""
        return self.usable * (device.link if world <= self.per_node else self.between)

    def all_reduce(self, size: float, device: Device, world: int) -> float:
        """Seconds for a ring to sum `size` bytes over `world` devices."""
        hops = 2 * (world - 1)
        return hops / world * size / self.rate(device, world) + hops * self.latency


@dataclass(frozen=True)
class StepTime:
    """Seconds for the parts of one optimizer step; communication is the part that is not hidden."""

    compute: float
    communication: float
    orthogonalization: float

    @property
    def total(self) -> float:
        return self.compute + self.communication + self.orthogonalization


def step_time(
    config: RunConfig, device: Device, world: int, mfu: float, network: Network | None = None
) -> StepTime:
    """Time of an optimizer step on one global batch on `world` devices."""
    network = network or Network()
    draws = config.objective.flow_draws
    encoder, decoder = meta_models(config)
    parts, counted = (_bytes(encoder), _bytes(decoder)), flops(config)
    work = counted.step(draws) * config.batch_size / world
    newton = muon_flops(config) / (_NEWTON_SCHULZ_MFU * device.peak)
    micro = config.micro_batch_size or config.batch_size // world
    if config.sharding == "none" or world == 1:
        last, early = (network.all_reduce(size, device, world) for size in parts)
        hidden = config.kind.decodes_first * draws * counted.flow_draw * micro / (mfu * device.peak)
        communication = last + max(0.0, early - hidden)
    else:
        # Per term and micro-batch: gather for forward and for backward, scatter gradients.
        rounds = max(1, config.batch_size // (micro * world))
        moved = rounds * ((draws + 1) * parts[0] + parts[1]) + sum(parts)  # and Muon's own exchange
        communication = 3 * (world - 1) / world * moved / network.rate(device, world)
        newton /= world
    return StepTime(work / (mfu * device.peak), communication, newton)


def muon_flops(config: RunConfig, steps: int = 5, *, with_decoder: bool = True) -> float:
    """FLOPs of Newton-Schulz on all hidden matrices (a, b), a <= b: 4 a^2 b + 2 a^3 per step."""
    encoder, decoder = meta_models(config)
    model = nn.ModuleDict({"encoder": encoder} | ({"decoder": decoder} if with_decoder else {}))
    shapes = [sorted(matrix.shape) for _, matrix in partition(model)["muon"]]
    return sum(steps * (4.0 * a * a * b + 2.0 * a**3) for a, b in shapes)


def _bytes(model: nn.Module) -> float:
    return float(_FLOAT * sum(p.numel() for p in model.parameters()))

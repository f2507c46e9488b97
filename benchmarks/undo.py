"""Each claimed gain taken back, one at a time: our step without it, beside our step.

`joint adaLN` goes the other way: it is a change that was tried and not kept.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.cases import Step, our_trainer
from benchmarks.released import LoopedMuon, plain_average
from openunite.flow.random import SlotRandom
from openunite.modalities.base import Batch
from openunite.objective import LossTerm, UniteObjective
from openunite.training.config import RunConfig
from openunite.training.trainer import Trainer


def undone(config: RunConfig) -> dict[str, Step]:
    """Steps by what is undone; each has its own trainer, so all start from the same weights."""
    changes = {
        "here": lambda trainer: None,
        "last block on every position": _full_last_block,
        "all draws in one graph": _one_graph,
        "RMSNorm by autograd": lambda trainer: None,
        "Muon one matrix at a time": _looped_muon,
        "EMA one tensor at a time": _looped_average,
        "joint adaLN": _joint_modulation,
    }
    steps: dict[str, Step] = {}
    for name, change in changes.items():
        trainer = our_trainer(config)
        change(trainer)
        batches = iter(trainer.batches())
        plain = name == "RMSNorm by autograd"
        steps[name] = lambda t=trainer, b=batches, p=plain: _run(t, b, plain_norm=p)
    return steps


def _run(trainer: Trainer, batches: Iterator[Batch], *, plain_norm: bool) -> None:
    with ExitStack() as stack:
        for module in ("norm", "attention") if plain_norm else ():
            stack.enter_context(patch(f"openunite.nn.{module}.unit_rms", _plain_unit_rms))
        trainer._train_step(batches)


def _plain_unit_rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def _full_last_block(trainer: Trainer) -> None:
    last: Any = trainer.objective.encoder.get_submodule("blocks")[-1]  # type: ignore[index]
    inner = last.forward

    def forward(x: Tensor, c: Tensor, angles: Tensor, mask: Any, queries: slice) -> Tensor:
        found: Tensor = inner(x, c, angles, mask)
        return found[:, queries]

    last.forward = forward


@dataclass(frozen=True)
class _OneGraph:
    """All terms as one, back-propagated together."""

    inner: UniteObjective

    @property
    def encoder(self) -> Any:
        return self.inner.encoder

    @property
    def decoder(self) -> Any:
        return self.inner.decoder

    def flow_weight_at(self, step: int) -> float:
        return self.inner.flow_weight_at(step)

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        found = list(self.inner.terms(batch, step, random))
        total = torch.stack([term.value * term.weight for term in found]).sum()
        yield LossTerm("total", total, 1.0, {}, found[0].latents)


def _one_graph(trainer: Trainer) -> None:
    assert isinstance(trainer.objective, UniteObjective)
    trainer.objective = _OneGraph(trainer.objective)


def _looped_muon(trainer: Trainer) -> None:
    group = trainer.optimizers["muon"].param_groups[0]
    looped = LoopedMuon(group["params"], group["lr"])
    looped.param_groups[0]["initial_lr"] = group["initial_lr"]
    trainer.optimizers["muon"] = looped


def _looped_average(trainer: Trainer) -> None:
    ema = trainer.ema
    ema.update = lambda step: plain_average(  # type: ignore[method-assign]
        ema.model, trainer.model, ema.decay
    )


def _joint_modulation(trainer: Trainer) -> None:
    """One product for the adaLN projections of all blocks; the weights stay apart, for Muon."""
    layers: list[Any] = [b.modulation for b in trainer.objective.encoder.get_submodule("blocks")]
    parts: dict[int, Tensor] = {}

    def first(condition: Tensor) -> Tensor:
        weight, bias = (torch.cat([getattr(m, n) for m in layers]) for n in ("weight", "bias"))
        joint = torch.nn.functional.linear(condition, weight, bias)
        parts.update(enumerate(joint.chunk(len(layers), dim=-1)))
        return parts.pop(0)

    for i, layer in enumerate(layers):
        layer.forward = first if i == 0 else lambda condition, i=i: parts.pop(i)

"""Each claimed gain taken back, one at a time: our step without it, beside our step.

All variants step the same trainer, so that nothing differs but the change: where a copy of the
weights lies in memory alone makes a step 15 % faster or slower. `joint adaLN` goes the other way:
a change that was tried and not kept.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.cases import Step, our_trainer
from benchmarks.released import LoopedMuon, plain_average
from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.objective import LossTerm, UniteObjective
from openunite.training.config import RunConfig
from openunite.training.trainer import Trainer

Change = Callable[[Trainer, ExitStack], None]


def undone(config: RunConfig) -> dict[str, Step]:
    """Steps of one trainer by what is undone while they last."""
    trainer = our_trainer(config)
    batches = iter(trainer.batches())

    def step(change: Change) -> None:
        with ExitStack() as stack:
            change(trainer, stack)
            trainer.advance(batches)

    changes: dict[str, Change] = {
        "here": lambda trainer, stack: None,
        "last block on every position": _full_last_block,
        "all draws in one graph": _one_graph,
        "RMSNorm by autograd": _plain_norm,
        "Muon one matrix at a time": _looped_muon,
        "Muon in the other precision": _other_precision,
        "EMA one tensor at a time": _looped_average,
        "AdamW one tensor at a time": _looped_adamw,
        "clipping one tensor at a time": _looped_clipping,
        "attention from plain products": _plain_attention,
        "joint adaLN": _joint_modulation,
    }
    return {name: lambda change=change: step(change) for name, change in changes.items()}


def _full_last_block(trainer: Trainer, stack: ExitStack) -> None:
    last = _blocks(trainer)[-1]
    inner = last.forward

    def forward(x: Tensor, c: Tensor, angles: Tensor, mask: Any, queries: slice) -> Tensor:
        found: Tensor = inner(x, c, angles, mask)
        return found[:, queries]

    stack.enter_context(patch.object(last, "forward", forward))


@dataclass(frozen=True)
class _OneGraph:
    """All terms as one, back-propagated together."""

    inner: UniteObjective

    def weights(self, step: int) -> dict[str, float]:
        return self.inner.weights(step)

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]:
        found = list(self.inner.terms(batch, step, random))
        total = torch.stack([term.value * term.weight for term in found]).sum()
        yield LossTerm("total", total, 1.0, {}, found[0].latents)


def _one_graph(trainer: Trainer, stack: ExitStack) -> None:
    assert isinstance(trainer.objective, UniteObjective)
    stack.enter_context(patch.object(trainer.train_step, "objective", _OneGraph(trainer.objective)))


def _plain_norm(trainer: Trainer, stack: ExitStack) -> None:
    def unit_rms(x: Tensor, eps: float = 1e-6) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    for module in ("norm", "attention"):
        stack.enter_context(patch(f"openunite.nn.{module}.unit_rms", unit_rms))


def _looped_muon(trainer: Trainer, stack: ExitStack) -> None:
    stack.enter_context(_as_class(trainer.optimizers["muon"], LoopedMuon))


def _other_precision(trainer: Trainer, stack: ExitStack) -> None:
    """float32 on a GPU, where bfloat16 is the default; bfloat16 elsewhere, as torch's has it."""
    muon, gpu = trainer.optimizers["muon"], trainer.accelerator.device.type == "cuda"
    other = torch.float32 if gpu else torch.bfloat16
    stack.enter_context(patch.object(muon, "precision", other))


@contextmanager
def _as_class(thing: Any, other: type) -> Iterator[None]:
    own, thing.__class__ = thing.__class__, other
    yield
    thing.__class__ = own


def _looped_average(trainer: Trainer, stack: ExitStack) -> None:
    ema = trainer.ema

    def update(step: int) -> None:
        plain_average(ema.model, trainer.model, ema.decay)

    stack.enter_context(patch.object(ema, "update", update))


def _looped_adamw(trainer: Trainer, stack: ExitStack) -> None:
    for group in trainer.optimizers["adamw"].param_groups:
        stack.enter_context(patch.dict(group, fused=False, foreach=False))


def _looped_clipping(trainer: Trainer, stack: ExitStack) -> None:
    def looped(parameters: Iterable[Tensor], most: float) -> Tensor:
        return nn.utils.clip_grad_norm_(list(parameters), most, foreach=False)

    stack.enter_context(patch("openunite.training.step.clip_gradients", looped))


def _plain_attention(trainer: Trainer, stack: ExitStack) -> None:
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))


def _joint_modulation(trainer: Trainer, stack: ExitStack) -> None:
    """One product for the adaLN projections of all blocks; the weights stay apart, for Muon."""
    layers = [block.modulation for block in _blocks(trainer)]
    parts: dict[int, Tensor] = {}

    def first(condition: Tensor) -> Tensor:
        weight, bias = (torch.cat([getattr(m, n) for m in layers]) for n in ("weight", "bias"))
        joint = torch.nn.functional.linear(condition, weight, bias)
        parts.update(enumerate(joint.chunk(len(layers), dim=-1)))
        return parts.pop(0)

    for i, layer in enumerate(layers):
        own = first if i == 0 else lambda condition, i=i: parts.pop(i)
        stack.enter_context(patch.object(layer, "forward", own))


def _blocks(trainer: Trainer) -> list[Any]:
    return list(trainer.objective.encoder.get_submodule("blocks").children())

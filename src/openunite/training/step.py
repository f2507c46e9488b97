"""One optimizer step: one global batch, whoever computes it.

Gradients are averaged over processes once per step, explicitly: the loss terms are
back-propagated one at a time, and a wrapper that hooks every backward pass would reduce k + 1
times. Those of a part that no later term reaches (the decoder's) travel while the others are
computed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.modality import Modality
from openunite.models.generative_encoder import Encoder
from openunite.objective import LossTerm
from openunite.training import collapse
from openunite.training.config import RunConfig
from openunite.training.device import send, wide
from openunite.training.ema import EMA
from openunite.training.schedule import SampleOrder, learning_rate_factor
from openunite.training.sharding import GradientAverage, clip_gradients


class Objective(Protocol):
    """What training needs of an objective; `companions`, if it has any, are trained along."""

    @property
    def encoder(self) -> Encoder: ...

    @property
    def decoder(self) -> nn.Module: ...

    @property
    def modality(self) -> Modality: ...

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]: ...

    def weights(self, step: int) -> dict[str, float]:
        """The weights that change during a run, under the names they are logged by."""


@dataclass(frozen=True)
class Verdict:
    """What the host has to know of a step before it goes on."""

    finite: bool  # the loss and the norm of its gradients
    stop: bool  # a process was asked to stop

    @classmethod
    def read(cls, loss: Tensor, grad_norm: Tensor, stop: Tensor) -> "Verdict":
        """Both answers come as one number, so the host waits for the device once."""
        finite = torch.stack([wide(grad_norm), loss]).isfinite().all()
        answers = int(finite + 2 * (stop > 0.0))
        return cls(bool(answers % 2), answers >= 2)


@dataclass
class Totals:
    """What one process found out about its part of a global batch."""

    scalars: dict[str, list[Tensor]] = field(default_factory=dict)
    latents: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # padded, and what is valid

    def add(self, name: str, value: Tensor) -> None:
        """Note one more value of a scalar."""
        self.scalars.setdefault(name, []).append(value)


@dataclass
class TrainStep:
    """Equation (5) for one global batch: accumulate gradients, average, clip, update.

    A loss or gradient that is not finite leaves weights, averages and optimizers untouched; the
    row of such a step has "skipped".
    """

    objective: Objective
    config: RunConfig
    order: SampleOrder
    accelerator: Accelerator
    model: nn.ModuleDict
    ema: EMA
    optimizers: dict[str, torch.optim.Optimizer]
    sharded: bool = False

    def __call__(
        self, step: int, batches: Iterator[Batch], asked_to_stop: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], Verdict]:
        """The scalars of optimizer step `step`, counted from 0, and whether to go on.

        This process is asked once its gradients are there; the verdict is that of all processes.
        """
        totals = self.accumulate(step, batches)
        row, stops = self._reduce(step, totals, asked_to_stop())
        row["grad_norm"] = clip_gradients(self.model.parameters(), self.config.optimizer.clip_norm)
        verdict = Verdict.read(row["loss"], row["grad_norm"], stops)
        row["learning_rate"] = self.update(step, verdict)
        return row if verdict.finite else {**row, "skipped": 1.0}, verdict

    def accumulate(self, step: int, batches: Iterator[Batch]) -> Totals:
        """Leave the gradients of a global batch in the parameters, averaged over processes."""
        several = self.accelerator.num_processes > 1 and not self.sharded
        average = GradientAverage(self.model.parameters()) if several else None
        totals = Totals()
        for micro in range(self.order.accumulation):
            slots = self.order.slots(micro, self.accelerator.process_index)
            last = average if micro == self.order.accumulation - 1 else None
            self._backward(step, next(batches), slots, totals, last)
        if average is not None:
            average.finish()
        return totals

    def update(self, step: int, verdict: Verdict) -> float:
        """Step optimizers and EMA, if the step is finite, and clear the gradients.

        Returns Muon's learning rate.
        """
        settings = self.config.optimizer
        shape = settings.warmup_steps, settings.final_share, settings.constant_share
        factor = learning_rate_factor(step, self.config.steps, *shape)
        for optimizer in self.optimizers.values():
            if verdict.finite:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                optimizer.step()
        if verdict.finite:
            self.ema.update(step)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        return settings.muon_learning_rate * factor

    def _backward(
        self,
        step: int,
        batch: Batch,
        slots: Tensor,
        totals: Totals,
        average: GradientAverage | None,
    ) -> None:
        """Back-propagate the loss terms of one micro-batch, each before the next is computed.

        With `average`, which the last micro-batch has, gradients that are complete are sent.
        """
        device = self.accelerator.device
        batch = batch.to(device, non_blocking=device.type == "cuda")
        slots = send(slots, device)
        random = SlotRandom(self.config.seed, step, slots, fused=self.config.compile)
        terms = self.objective.terms(batch, step, random)
        total = torch.zeros((), device=device)
        while (term := self._next(terms)) is not None:
            self.accelerator.backward(term.value * (term.weight / self.order.accumulation))
            if average is not None and term.done is not None:
                average.send(term.done.parameters())
            total = total + term.value.detach() * term.weight
            for name, value in {term.name: term.value, **term.parts}.items():
                totals.add(f"loss_{name}", value.detach())
            if term.latents is not None:
                size = self.config.model.num_registers
                padded = collapse.pad_latents(term.latents, batch.mask, size)
                totals.latents.append(padded)
        totals.add("loss", total)

    def _next(self, terms: Iterator[LossTerm]) -> LossTerm | None:
        """The forward pass of one term runs under autocast, its backward pass does not."""
        with self.accelerator.autocast():
            return next(terms, None)

    def _reduce(self, step: int, totals: Totals, stop: bool) -> tuple[dict[str, Any], Tensor]:
        """Scalars averaged over micro-batches, draws and processes; the share that was to stop."""
        latents, valid = map(torch.cat, zip(*totals.latents, strict=True))
        # The word of a signal travels with the scalars: no message of its own.
        scalars = {**totals.scalars, "stop": [latents.new_full((), float(stop))]}
        means = torch.stack([wide(torch.stack(values).mean()) for values in scalars.values()])
        sums = collapse.moments(latents, valid)
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(means, "mean")
            sums = self.accelerator.reduce(sums, "sum")
        *found, stops = means
        row: dict[str, Any] = dict(zip(totals.scalars, found, strict=True))
        row |= self.objective.weights(step)
        row |= {"latent_spread": collapse.spread_of(sums)}
        if (step + 1) % self.config.log_every == 0:
            everyone = self.accelerator.gather((latents, valid))
            row["effective_rank"] = collapse.effective_rank(*everyone)
        return row, stops

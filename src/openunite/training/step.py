"""One optimizer step: one global batch, on any number of processes.

Gradients are averaged over processes explicitly, once per step: the loss terms are back-propagated
one at a time, and a wrapper that hooks every backward pass would reduce k + 1 times. Gradients that
no later term changes (the decoder's) are sent while the others are being computed.
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
    """What training needs of an objective; its `companions`, if any, are trained as well."""

    @property
    def encoder(self) -> Encoder: ...

    @property
    def decoder(self) -> nn.Module: ...

    @property
    def modality(self) -> Modality: ...

    def terms(self, batch: Batch, step: float, random: SlotRandom) -> Iterator[LossTerm]: ...

    def weights(self, step: float) -> dict[str, float]:
        """The loss weights that change during a run, by the names used in the log."""


@dataclass(frozen=True)
class Verdict:
    """What the host has to know about a step before it takes the next."""

    finite: bool  # whether the loss and the gradient norm are finite
    stop: bool  # whether any process received a stop signal

    @classmethod
    def read(cls, loss: Tensor, grad_norm: Tensor, stop: Tensor) -> "Verdict":
        """Read both flags as one number, so that the host waits for the device once."""
        finite = torch.stack([wide(grad_norm), loss]).isfinite().all()
        answers = int(finite + 2 * (stop > 0.0))
        return cls(bool(answers % 2), answers >= 2)


@dataclass
class Totals:
    """Scalars and latents of one process's part of a global batch."""

    scalars: dict[str, list[Tensor]] = field(default_factory=dict)
    latents: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # from `pad_latents`

    def add(self, name: str, value: Tensor) -> None:
        """Record one more value of a scalar."""
        self.scalars.setdefault(name, []).append(value)


@dataclass
class TrainStep:
    """Equation (5) for one global batch: accumulate gradients, average, clip, update.

    If the loss or a gradient is not finite, weights, averages and optimizers stay unchanged, and
    the row of that step has "skipped".
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
        """Take optimizer step `step`, counted from 0; return its row of the log and the verdict.

        `asked_to_stop` is called after the backward passes; the verdict combines all processes.
        """
        totals = self.accumulate(step, batches)
        row, stops = self._reduce(step, totals, asked_to_stop())
        row["grad_norm"] = clip_gradients(self.model.parameters(), self.config.optimizer.clip_norm)
        verdict = Verdict.read(row["loss"], row["grad_norm"], stops)
        row["learning_rate"] = self.update(step, verdict)
        return row if verdict.finite else {**row, "skipped": 1.0}, verdict

    def accumulate(self, step: int, batches: Iterator[Batch]) -> Totals:
        """Compute the gradients of a global batch, averaged over processes, into the parameters."""
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
        """Update weights and EMA if the step is finite; clear the gradients.

        Returns Muon's learning rate.
        """
        settings = self.config.optimizer
        shape = settings.warmup_steps, settings.final_share, settings.constant_share
        planned, place = self.config.planned_steps, self.config.place(step)
        factor = learning_rate_factor(place, planned, *shape)
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

        With `average`, given for the last micro-batch only, complete gradients are sent at once.
        """
        device = self.accelerator.device
        batch = batch.to(device, non_blocking=device.type == "cuda")
        slots = send(slots, device)
        random = SlotRandom(self.config.seed, step, slots, fused=self.config.compile)
        terms = self.objective.terms(batch, self.config.place(step), random)
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
        """The next term; its forward pass runs under autocast, its backward pass does not."""
        with self.accelerator.autocast():
            return next(terms, None)

    def _reduce(self, step: int, totals: Totals, stop: bool) -> tuple[dict[str, Any], Tensor]:
        """The row of scalars (means over processes), and the fraction of processes to stop."""
        latents, valid = map(torch.cat, zip(*totals.latents, strict=True))
        # The stop flag is reduced together with the scalars, so it needs no extra message.
        scalars = {**totals.scalars, "stop": [latents.new_full((), float(stop))]}
        means = torch.stack([wide(torch.stack(values).mean()) for values in scalars.values()])
        sums = collapse.moments(latents, valid)
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(means, "mean")
            sums = self.accelerator.reduce(sums, "sum")
        *found, stops = means
        row: dict[str, Any] = dict(zip(totals.scalars, found, strict=True))
        row |= self.objective.weights(self.config.place(step))
        row |= {"latent_spread": collapse.spread_of(sums)}
        if (step + 1) % self.config.log_every == 0:
            everyone = self.accelerator.gather((latents, valid))
            row["effective_rank"] = collapse.effective_rank(*everyone)
        return row, stops

"""The training loop: one optimizer step is one global batch, whoever computes it.

Gradients are averaged over processes once per step, explicitly: the loss terms are
back-propagated one at a time, and a wrapper that hooks every backward would reduce k + 1 times.
Those of a part that no later term reaches (the decoder's) travel while the others are computed.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from openunite.batch import Batch
from openunite.flow.random import SlotRandom
from openunite.modality import Modality
from openunite.objective import LossTerm
from openunite.training import collapse
from openunite.training.checkpoint import (
    load_newest,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from openunite.training.collapse import CollapseGuard
from openunite.training.config import RunConfig, flatten, to_dict
from openunite.training.device import check_compiler, on_cpu, send, wide
from openunite.training.ema import EMA
from openunite.training.loader import TrainingData, make_loader, sample_order
from openunite.training.log import MetricsLog, ProgressBar, Row, check_trackers
from openunite.training.optim import build_optimizers
from openunite.training.schedule import learning_rate_factor
from openunite.training.sharding import (
    GradientAverage,
    clip_gradients,
    gathered,
    load_whole,
    shard,
    whole_on_cpu,
)
from openunite.training.signals import StopSignals

MAX_BAD_STEPS = 20


class Objective(Protocol):
    """What the trainer needs of an objective; `companions`, if it has any, are trained along."""

    @property
    def encoder(self) -> nn.Module: ...

    @property
    def decoder(self) -> nn.Module: ...

    @property
    def modality(self) -> Modality: ...

    def terms(self, batch: Batch, step: int, random: SlotRandom) -> Iterator[LossTerm]: ...

    def flow_weight_at(self, step: int) -> float: ...


@dataclass(frozen=True)
class TrainResult:
    """How a call to `fit` ended; `finished` is False after SIGTERM or Ctrl-C."""

    steps_done: int
    finished: bool
    train_seconds: float
    samples_per_second: float


class Trainer:
    """Trains `objective` on `dataset` into `folder`; run again with the same config, it resumes.

    `preview(ema, step)` is called every `config.preview_every` steps on the main process.
    """

    def __init__(
        self,
        objective: Objective,
        dataset: TrainingData,
        config: RunConfig,
        folder: Path,
        preview: Callable[[nn.Module, int], None] | None = None,
    ) -> None:
        self.config, self.objective, self.dataset = config, objective, dataset
        self.folder, self.preview = folder, preview
        self.accelerator = Accelerator(
            cpu=on_cpu(),
            mixed_precision=config.precision,
            log_with=check_trackers(config.trackers),
            project_dir=folder,
        )
        device, world = self.accelerator.device, self.accelerator.num_processes
        model = {"encoder": objective.encoder, "decoder": objective.decoder}
        self.model = nn.ModuleDict(model | getattr(objective, "companions", {})).to(device).train()
        self.ema = EMA(self.model, config.optimizer.ema_decay)
        self.average: nn.Module = self.ema.model  # after `fit`: with whole weights
        self.sharded = config.sharding == "full" and world > 1
        if self.sharded:
            shard(self.model, self.ema.model, device)
        self.names: dict[Tensor, str] = {p: n for n, p in self.model.named_parameters()}
        self.optimizers = build_optimizers(self.model, config.optimizer)
        if config.compile:
            self._compile(alike=dataset.sizes is None)
        self.order = sample_order(config, dataset, world)
        self.step, self.seconds, self.bad_steps = 0, 0.0, 0
        self.signals, self.agreed = StopSignals(), False

    def _compile(self, *, alike: bool) -> None:
        """In place, so that names in checkpoints stay; whole graphs if batches have one shape."""
        check_compiler(self.accelerator.device)
        torch.compiler.reset()  # graphs of an earlier trainer count towards the limit of one
        for part in self.model.values():
            # FSDP2 breaks the graph to gather weights.
            part.compile(fullgraph=alike and not self.sharded, dynamic=False if alike else None)
        self.objective.modality.compile()

    def fit(self) -> TrainResult:
        """Train to `config.steps`, or until a signal asks to stop; saves before it returns."""
        self._resume()
        main = self.accelerator.is_main_process
        log = MetricsLog(self.folder / "metrics.jsonl" if main else None, self.step, self._track())
        guard = CollapseGuard.of_run(self.config.steps, self.config.optimizer.warmup_steps)
        bar = ProgressBar(self.step, self.config.steps, shown=main)
        first, before = self.step, self.seconds
        with StopSignals() as self.signals:
            try:
                self._loop(log, bar, guard)
            finally:
                bar.advance(log.flush())
                bar.close()
        if self.step > first:
            self.save()
        self.average = gathered(self.ema.model)
        self.accelerator.end_training()
        rate = (self.step - first) * self.config.batch_size / max(1e-9, self.seconds - before)
        return TrainResult(self.step, self.step >= self.config.steps, self.seconds, rate)

    def _loop(self, log: MetricsLog, bar: ProgressBar, guard: CollapseGuard) -> None:
        batches, self.agreed = iter(self.batches()), False
        while self.step < self.config.steps and not self._stops():
            tick = time.perf_counter()
            row = self._train_step(batches)
            seconds = time.perf_counter() - tick
            self.seconds += seconds
            log.add({**row, "samples_per_second": self.config.batch_size / seconds})
            if self._due(self.config.log_every) or self._due(self.config.checkpoint_every):
                rows = log.flush()
                bar.advance(rows)
                guard.check(rows)
            if self._due(self.config.checkpoint_every) and self.step < self.config.steps:
                self.save()
            if self.preview and self.config.preview_every and self._due(self.config.preview_every):
                self._draw(self.preview)

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.config.steps

    def _stops(self) -> bool:
        """After a signal; several processes after the same step, in which all heard of it."""
        return self.agreed if self.accelerator.num_processes > 1 else self.signals.asked

    def _draw(self, preview: Callable[[nn.Module, int], None]) -> None:
        average = gathered(self.ema.model)
        if self.accelerator.is_main_process:
            with torch.no_grad():
                preview(average, self.step)
        self.accelerator.wait_for_everyone()

    # ---- one optimizer step ---------------------------------------------------------------

    def _train_step(self, batches: Iterator[Batch]) -> dict[str, Any]:
        """Equation (5) for one global batch: accumulate gradients, average, clip, update."""
        scalars: dict[str, list[Tensor]] = {}
        latents: list[tuple[Tensor, Tensor]] = []
        several = self.accelerator.num_processes > 1 and not self.sharded
        average = GradientAverage(self.names) if several else None
        for micro in range(self.order.accumulation):
            slots = self.order.slots(micro, self.accelerator.process_index)
            last = average if micro == self.order.accumulation - 1 else None
            self._accumulate(next(batches), slots, scalars, latents, last)
        if average is not None:
            average.finish()
        row = self._row(scalars, *map(torch.cat, zip(*latents, strict=True)))
        row["grad_norm"] = clip_gradients(self.names, self.config.optimizer.clip_norm)
        self._update(row)
        self.step += 1
        return {"step": self.step, **row}

    def _accumulate(
        self,
        batch: Batch,
        slots: Tensor,
        scalars: dict[str, list[Tensor]],
        latents: list[tuple[Tensor, Tensor]],
        average: GradientAverage | None,
    ) -> None:
        """Back-propagate the loss terms of one micro-batch, each before the next is computed.

        With `average`, which the last micro-batch has, gradients that are complete are sent.
        """
        device = self.accelerator.device
        batch = batch.to(device, non_blocking=device.type == "cuda")
        slots = send(slots, device)
        random = SlotRandom(self.config.seed, self.step, slots, fused=self.config.compile)
        terms = self.objective.terms(batch, self.step, random)
        total = torch.zeros((), device=device)
        while (term := self._next(terms)) is not None:
            self.accelerator.backward(term.value * (term.weight / self.order.accumulation))
            if average is not None and term.done is not None:
                average.send(term.done.parameters())
            total = total + term.value.detach() * term.weight
            for name, value in {term.name: term.value, **term.parts}.items():
                scalars.setdefault(f"loss_{name}", []).append(value.detach())
            if term.latents is not None:
                size = self.config.model.num_registers
                latents.append(collapse.pad_latents(term.latents, batch.mask, size))
        scalars.setdefault("loss", []).append(total)

    def batches(self) -> Iterable[Batch]:
        """The micro-batches of this process from the present step to the last."""
        rank, pinned = self.accelerator.process_index, self.accelerator.device.type == "cuda"
        indices = self.order.batches(self.step, self.config.steps, rank)
        return make_loader(self.dataset, indices, self.config.data.workers, pinned)

    def _next(self, terms: Iterator[LossTerm]) -> LossTerm | None:
        """The forward pass of one term runs under autocast, its backward pass does not."""
        with self.accelerator.autocast():
            return next(terms, None)

    def _row(
        self, scalars: dict[str, list[Tensor]], latents: Tensor, valid: Tensor
    ) -> dict[str, Any]:
        """Scalars of this step, averaged over micro-batches, draws and processes."""
        scalars["asked"] = [latents.new_full((), float(self.signals.asked))]  # to stop, by a signal
        names = list(scalars)
        means = torch.stack([wide(torch.stack(scalars[name]).mean()) for name in names])
        sums = collapse.moments(latents, valid)
        if self.accelerator.num_processes > 1:
            means = self.accelerator.reduce(means, "mean")
            sums = self.accelerator.reduce(sums, "sum")
        row: dict[str, Any] = dict(zip(names, means, strict=True))
        row |= {"flow_weight": self.objective.flow_weight_at(self.step)}
        row |= {"latent_spread": collapse.spread_of(sums)}
        if (self.step + 1) % self.config.log_every == 0:
            everyone = self.accelerator.gather((latents, valid))
            row["effective_rank"] = collapse.effective_rank(*everyone)
        return row

    def _update(self, row: dict[str, Any]) -> None:
        """Step optimizers and EMA; a loss or gradient that is not finite leaves both untouched."""
        settings = self.config.optimizer
        shape = settings.warmup_steps, settings.final_share, settings.constant_share
        factor = learning_rate_factor(self.step, self.config.steps, *shape)
        row["learning_rate"] = settings.muon_learning_rate * factor
        finite = torch.stack([wide(row["grad_norm"]), row["loss"]]).isfinite().all()
        answers = int(finite + 2 * (row.pop("asked") > 0.0))  # one number: the host waits once
        self.agreed = answers >= 2
        if answers % 2:
            self.bad_steps = 0
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
                optimizer.step()
            self.ema.update(self.step)
        else:
            self.bad_steps += 1
            row["skipped"] = 1.0
            if self.bad_steps >= MAX_BAD_STEPS:
                raise FloatingPointError(
                    f"losses or gradients were not finite for {MAX_BAD_STEPS} steps in a row, up "
                    f"to step {self.step + 1}; no such step touched the weights. Look for NaN in "
                    "the data, lower the learning rates, or set precision to 'no' (float32)"
                )
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def save(self) -> Path | None:
        """Write a checkpoint of the present step; the main process writes, all wait."""
        groups = {"model": self.model.state_dict(), "ema": self.ema.model.state_dict()}
        for name, optimizer in self.optimizers.items():
            groups[f"optimizer_{name}"] = optimizer_tensors(optimizer, self.names)
        main, path = self.accelerator.is_main_process, None
        tensors = {name: whole_on_cpu(group, keep=main) for name, group in groups.items()}
        if main:
            state = {"seconds": self.seconds, "bad_steps": self.bad_steps}
            path = save_checkpoint(
                self.folder / "checkpoints", self.step, tensors, state, self.config.keep_checkpoints
            )
        self.accelerator.wait_for_everyone()
        return path

    def _resume(self) -> None:
        """Continue from the newest sound checkpoint, if there is one."""
        loaded, complaints = load_newest(self.folder / "checkpoints")
        for complaint in complaints:
            self.accelerator.print(f"warning: {complaint}")
        if self.accelerator.num_processes > 1:
            self._agree(-1 if loaded is None else int(loaded.state["step"]))
        if loaded is None:
            return
        load_whole(self.model, loaded.tensors["model"])
        load_whole(self.ema.model, loaded.tensors["ema"])
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, self.names, loaded.tensors[f"optimizer_{name}"])
        names = ("step", "seconds", "bad_steps")
        self.step, self.seconds, self.bad_steps = (loaded.state[name] for name in names)
        self.accelerator.print(f"resuming {self.folder} at step {self.step}")

    def _agree(self, step: int) -> None:
        """ValueError unless every process found the same checkpoint; -1 for none."""
        own = torch.tensor([step], device=self.accelerator.device)
        found = sorted(set(self.accelerator.gather(own).tolist()))
        if len(found) > 1:
            raise ValueError(
                f"processes found different checkpoints in {self.folder} (steps {found}, -1 for "
                "none); expected one folder that all of them see: mount it on every node"
            )

    def _track(self) -> list[Callable[[Row], None]]:
        """A sink for rows: the trackers that Accelerate knows by name."""
        if not self.config.trackers:
            return []
        settings = flatten(to_dict(self.config))
        plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
        self.accelerator.init_trackers("tracker", config=plain)
        return [lambda row: self.accelerator.log(row, step=int(row["step"]))]
